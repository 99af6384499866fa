"""Blocks below the first that moves: half of the rows, the same losses."""

import pytest
import torch
from tiny_models import MODELS, batch, prepared
from torch import Tensor, nn

from zolit.models.blocks import compile_blocks
from zolit.models.prefix import share_prefix
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import Int8, NoQuantizer, ScalePerturber
from zolit.tensors.reading import Reading

UPPER = {"gpt2": "*.h.1.attn.c_proj.weight", "roberta": "*.layer.1.attention.self.query.weight"}
LISTS = {"gpt2": "transformer.h", "opt": "model.decoder.layers", "roberta": "roberta.encoder.layer"}


def upper(name: str) -> list[str]:
    return [UPPER.get(name, "*layers.1.self_attn.*_proj.weight")]


def blocks(model: nn.Module, name: str) -> nn.ModuleList:
    found = model.get_submodule(LISTS.get(name, "model.layers"))
    assert isinstance(found, nn.ModuleList)
    return found


def rows_seen(model: nn.Module, name: str) -> list[int]:
    """Rows that each block reads from now on, filled as it goes."""
    seen: list[int] = []
    for block in blocks(model, name):
        block.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[0]))
    return seen


@torch.no_grad()
def pair(model: nn.Module, reading: Reading, name: str) -> Tensor:
    with reading.perturbed(5, 0.05, 2):
        return OptionScoring().losses(model, batch(name), 2)


@pytest.mark.parametrize("name", MODELS)
def test_a_pair_reads_the_same(name: str) -> None:
    model, reading, pairable = prepared(name, NoQuantizer(), upper(name))
    assert pairable
    wanted, one = pair(model, reading, name), batch(name)
    rest = OptionScoring().losses(model, one)
    assert share_prefix(model, reading) == 1
    seen = rows_seen(model, name)
    # The batch is doubled to 8 rows, which is also the number of tokens.
    torch.testing.assert_close(pair(model, reading, name), wanted, rtol=1e-6, atol=1e-6)
    assert seen == [4, 8]
    assert (wanted[0] - wanted[1]).abs() > 1e-4
    assert torch.equal(OptionScoring().losses(model, one), rest)
    with reading.perturbed(5, 0.05, 1):
        torch.testing.assert_close(OptionScoring().losses(model, one)[0], wanted[0])
    assert seen == [4, 8, 4, 4, 4, 4]


def test_a_pass_that_broke_off_leaves_nothing() -> None:
    model, reading, _ = prepared("llama", NoQuantizer(), upper("llama"))
    wanted = pair(model, reading, "llama")
    share_prefix(model, reading)
    last = blocks(model, "llama")[1]
    hook = last.register_forward_pre_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        pair(model, reading, "llama")
    hook.remove()
    torch.testing.assert_close(pair(model, reading, "llama"), wanted, rtol=1e-6, atol=1e-6)


def test_compiled_blocks() -> None:
    name, perturber = "llama", ScalePerturber(1e-2)
    model, reading, _ = prepared(name, Int8(), upper(name), perturber, "compiled")
    wanted = pair(model, reading, name)
    compile_blocks(model)
    assert share_prefix(model, reading) == 1
    torch.testing.assert_close(pair(model, reading, name), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tune", [["linear"], ["embeddings", *upper("llama")], ["norms"]])
def test_models_that_move_from_the_start(tune: list[str]) -> None:
    model, reading, _ = prepared("llama", NoQuantizer(), tune)
    assert share_prefix(model, reading) == 0
    assert all(block._compiled_call_impl is None for block in blocks(model, "llama"))
