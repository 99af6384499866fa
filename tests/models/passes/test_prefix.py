"""Blocks below the first that moves: half of the rows, once a batch, the same losses."""

import pytest
import torch
from tiny_models import MODELS, batch, prepared
from torch import Tensor, nn

from zolit.coordinates import Site
from zolit.models.families import last_logits
from zolit.models.passes.compiled_blocks import compile_blocks
from zolit.models.passes.prefix import share_prefix
from zolit.models.passes.prefix_trial import try_prefix
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import Int8, Losses, NoQuantizer, RandomBlocks, ScalePerturber, TwoPoint
from zolit.tensors.reading import Reading
from zolit.tensors.weight import perturbed_weights

UPPER = {"gpt2": "*.h.1.attn.c_proj.weight", "roberta": "*.layer.1.attention.self.query.weight"}
LISTS = {"gpt2": "transformer.h", "opt": "model.decoder.layers", "roberta": "roberta.encoder.layer"}


def upper(name: str) -> list[str]:
    return [UPPER.get(name, "*layers.1.self_attn.*_proj.weight")]


def share(model: nn.Module, reading: Reading) -> int:
    return share_prefix(model, reading, try_prefix(model, reading, last_logits))


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
def pair(model: nn.Module, reading: Reading, name: str, key: int = 5) -> Tensor:
    with reading.perturbed(key, 0.05, 2):
        return OptionScoring().losses(model, batch(name), 2)


@pytest.mark.parametrize("name", MODELS)
def test_a_pair_reads_the_same(name: str) -> None:
    model, reading, pairable = prepared(name, NoQuantizer(), upper(name))
    assert pairable
    wanted, one = pair(model, reading, name), batch(name)
    rest = OptionScoring().losses(model, one)
    assert share(model, reading) == 1
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
    share(model, reading)
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
    forms = try_prefix(model, reading, last_logits)
    compile_blocks(model)
    assert share_prefix(model, reading, forms) == 1
    torch.testing.assert_close(pair(model, reading, name), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_directions_of_one_batch_share_a_pass(name: str) -> None:
    model, reading, _ = prepared(name, NoQuantizer(), upper(name))
    wanted = [pair(model, reading, name, key) for key in (5, 6, 7)]
    share(model, reading)
    seen = rows_seen(model, name)
    with reading.same_batch():
        found = [pair(model, reading, name, key) for key in (5, 6, 7)]
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=1e-6, atol=1e-6)
    assert seen == [4, 8, 8, 8]
    assert reading.repeated is None
    pair(model, reading, name)
    assert seen[4:] == [4, 8]


@torch.no_grad()
def test_another_batch_inside_is_run() -> None:
    model, reading, _ = prepared("llama", NoQuantizer(), upper("llama"))
    one, other = batch("llama"), batch("llama")
    other.attention_mask[:, 0] = 0
    losses = OptionScoring().losses
    wanted = [losses(model, one), losses(model, other)]
    assert not torch.equal(*wanted)
    share(model, reading)
    seen = rows_seen(model, "llama")
    with reading.same_batch():
        found = [losses(model, which) for which in (one, other, other)]
    assert torch.equal(torch.stack(found), torch.stack([*wanted, wanted[1]]))
    assert seen == [4, 4, 4, 4, 4]


def test_norms_behind_the_blocks_take_the_whole_model_as_prefix() -> None:
    model, reading, pairable = prepared("llama", NoQuantizer(), ["model.norm.weight"])
    assert not pairable
    estimator, losses = TwoPoint(), Losses(OptionScoring(), model, batch("llama"))
    with torch.no_grad():
        wanted = estimator.estimate(losses, reading, [1, 2], 0.1, pairable)
        assert share(model, reading) == 2
        seen = rows_seen(model, "llama")
        with reading.same_batch():
            found = estimator.estimate(losses, reading, [1, 2], 0.1, pairable)
    assert torch.equal(found.values, wanted.values)
    assert wanted.values.abs().min() > 1e-4
    assert seen == [4, 4]


def test_a_weight_that_moves_before_the_blocks() -> None:
    model, reading, _ = prepared("llama", NoQuantizer(), ["embeddings", *upper("llama")])
    wanted = [pair(model, reading, "llama", key) for key in (5, 6)]
    assert share(model, reading) == 1
    seen = rows_seen(model, "llama")
    with reading.same_batch():
        found = [pair(model, reading, "llama", key) for key in (5, 6)]
    assert torch.equal(torch.stack(found), torch.stack(wanted))
    assert seen == [8, 8, 8, 8]


@pytest.mark.parametrize("tune", [["linear"], ["norms"]])
def test_models_whose_first_block_moves(tune: list[str]) -> None:
    model, reading, _ = prepared("llama", NoQuantizer(), tune)
    assert share(model, reading) == 0
    assert all(block._compiled_call_impl is None for block in blocks(model, "llama"))


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_directions_of_some_blocks_go_on_from_one_another(name: str) -> None:
    """The lower block runs once at rest, and for a pair only where it moves."""
    model, reading, _ = prepared(name, NoQuantizer(), mask=RandomBlocks(1))
    sites = [weight.site for weight in perturbed_weights(model)]
    # RoBERTa's head has a tuned layer of its own, which moves alone in some directions.
    keys = [next(k for k in range(99) if _first(sites, k) == n) for n in (1, 0, 1)]
    wanted = [pair(model, reading, name, key) for key in keys]
    assert share(model, reading) == 1
    seen = rows_seen(model, name)
    with reading.same_batch():
        found = [pair(model, reading, name, key) for key in keys]
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=1e-6, atol=1e-6)
    assert seen == [4, 8, 8, 8, 8]


def _first(sites: list[Site], key: int) -> int:
    return min(site.support.block for site in sites if site.support.includes(key))


@torch.no_grad()
def test_what_moves_behind_the_blocks_alone() -> None:
    name = "roberta"
    model, reading, _ = prepared(name, NoQuantizer(), mask=RandomBlocks(1))
    sites = [weight.site for weight in perturbed_weights(model)]
    key = next(k for k in range(99) if _first(sites, k) == 2)
    wanted = pair(model, reading, name, key)
    share(model, reading)
    torch.testing.assert_close(pair(model, reading, name, key), wanted, rtol=1e-6, atol=1e-6)
