"""Logits of the answers alone: the same as the whole vocabulary's, but finer."""

from typing import Any

import pytest
import torch
import transformers as hf
from tiny_models import prepared, tiny
from torch import nn

from zolit.models.passes.answer_head import only_answers
from zolit.strategies import Int4, Int8, NoQuantizer, Quantizer

ANSWERS = torch.tensor([7, 3, 11])
IDS = torch.arange(12).view(2, 6) + 3


def logits(model: Any, ids: torch.Tensor = IDS) -> torch.Tensor:
    return model(input_ids=ids).logits


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "roberta"])
def test_they_are_columns_of_the_whole(name: str) -> None:
    model = tiny(name).eval()
    whole = logits(model)
    with only_answers(model, ANSWERS) as chosen:
        assert chosen
        found = logits(model)
    torch.testing.assert_close(found, whole[..., ANSWERS])
    assert torch.equal(logits(model), whole)


@torch.no_grad()
def test_what_follows_the_output_layer_follows_the_answers() -> None:
    sizes = {"vocab_size": 32, "hidden_size": 32, "intermediate_size": 32, "head_dim": 16}
    heads = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1}
    config = hf.Gemma2Config(**sizes, **heads, final_logit_softcapping=0.05)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = hf.Gemma2ForCausalLM(config).eval()
    whole = logits(model)
    assert whole.abs().max() <= 0.05
    with only_answers(model, ANSWERS):
        torch.testing.assert_close(logits(model), whole[..., ANSWERS])


@torch.no_grad()
def test_float32_beside_a_bfloat16_model() -> None:
    model = tiny("llama").eval()
    exact = logits(model.double())[..., ANSWERS]
    model.to(torch.bfloat16)
    with only_answers(model, ANSWERS):
        found = logits(model)
    assert found.dtype == torch.float32
    assert not torch.equal(found, found.bfloat16().float())
    coarse = logits(model)[..., ANSWERS]
    assert (found - exact).abs().mean() < (coarse - exact).abs().mean()


@torch.no_grad()
@pytest.mark.parametrize(
    ("quantizer", "tune", "wanted"),
    [
        (NoQuantizer(), ["linear"], True),
        (NoQuantizer(), ["linear", "output"], False),
        (Int8(), ["linear", "output"], False),
        (Int4(32), ["linear"], True),
    ],
)
def test_an_output_layer_that_moves_answers_for_all(
    quantizer: Quantizer, tune: list[str], wanted: bool
) -> None:
    model, _, _ = prepared("llama", quantizer, tune)
    with only_answers(model, ANSWERS) as chosen:
        assert chosen == wanted
        assert logits(model).shape[-1] == (3 if wanted else model.config.vocab_size)


@torch.no_grad()
def test_an_output_layer_with_a_hook_answers_for_all() -> None:
    model = tiny("llama").eval()
    handle = model.lm_head.register_forward_hook(lambda layer, inputs, out: 2 * out)
    with only_answers(model, ANSWERS) as chosen:
        assert not chosen
    handle.remove()
    with only_answers(nn.Linear(2, 2), ANSWERS) as chosen:
        assert not chosen
