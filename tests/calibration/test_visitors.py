"""What is done to each block of a walk; the walk itself is in tests/models/test_anatomy.py."""

import pytest
import torch
from tiny_models import tiny

from zolit.calibration.visitors import replace_weights
from zolit.errors import UserError


def test_blocks_without_linear_layers_are_refused() -> None:
    """GPT-2's layers hold their matrices the other way round."""
    with pytest.raises(UserError, match="GPT2LMHeadModel has no list of blocks with linear layers"):
        replace_weights(tiny("gpt2"), torch.ones(1, 8).long(), lambda path, weight, moments: weight)


def test_a_block_sees_the_weights_that_were_replaced_before_it() -> None:
    model, ids = tiny("llama"), torch.arange(16).view(2, 8) + 5
    seen = {}

    def nothing(path: str, weight: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
        seen[path] = moments
        return torch.zeros_like(weight)

    replace_weights(model, ids, nothing)
    # Without its products the first block hands the embeddings on, which the second norms.
    hidden = model.model.layers[1].input_layernorm(model.model.embed_tokens(ids)).flatten(0, 1)
    got = seen["model.layers.1.self_attn.q_proj.weight"]
    assert torch.allclose(got, hidden.T @ hidden, rtol=1e-4, atol=1e-4)
