"""Directions of some blocks: which move, that the rest reads at rest, and what an update adds."""

from collections import Counter

import pytest
import torch
from scipy.stats import chisquare
from tiny_models import batch, prepared

from zolit.errors import UserError
from zolit.noise import fold
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import (
    CodePerturber,
    Int8,
    LowRankPerturber,
    NoQuantizer,
    Perturber,
    RandomBlocks,
    ScalePerturber,
)
from zolit.supports import Blocks
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight, perturbed_weights

PERTURBERS: dict[str, tuple[Int8 | NoQuantizer, Perturber | None]] = {
    "dense": (NoQuantizer(), None),
    "codes": (Int8(), CodePerturber(distribution="rademacher")),
    "integers": (Int8(activations="int8"), CodePerturber(distribution="rademacher")),
    "output scales": (Int8(), ScalePerturber()),
    "scales": (Int8(group_size=32), ScalePerturber(granularity="group")),
    "low rank": (NoQuantizer(), LowRankPerturber()),
}
KEY = 11


def values(weight: PerturbedWeight) -> torch.Tensor:
    return weight.dense().clone()


def test_blocks_must_be_positive() -> None:
    with pytest.raises(UserError, match="blocks must be at least 1, got 0"):
        RandomBlocks(0)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "roberta"])
def test_weights_know_their_block(name: str) -> None:
    model, _, _ = prepared(name, NoQuantizer(), ["linear", "embeddings"], mask=RandomBlocks())
    for weight in perturbed_weights(model):
        number = next((n for n in (0, 1) if f".{n}." in weight.path), 2)
        assert weight.site.support == Blocks(number, 3, 1), weight.path


def test_blocks_without_a_tuned_weight_have_no_number() -> None:
    tune = ["*layers.1.self_attn.*_proj.weight"]
    model, _, _ = prepared("llama", NoQuantizer(), tune, mask=RandomBlocks())
    assert {weight.site.support for weight in perturbed_weights(model)} == {Blocks(0, 1, 1)}


def test_each_block_is_as_likely() -> None:
    """1000 keys over 5 blocks; a right choice fails with odds of 1e-6, seeds are fixed."""
    supports = [Blocks(block, count=5, moving=2) for block in range(5)]
    found = Counter(
        tuple(one.block for one in supports if one.includes(fold(7, key))) for key in range(1000)
    )
    assert found.keys() == {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)}
    assert chisquare(list(found.values())).pvalue > 1e-6
    assert {one.importance_weight for one in supports} == {2.5}


def test_more_blocks_than_there_are_move_all() -> None:
    model, reading, _ = prepared("llama", NoQuantizer(), mask=RandomBlocks(3))
    assert reading.importance_weights == {1.0}
    assert not reading.leaves_weights_out
    assert all(weight.site.support.includes(KEY) for weight in perturbed_weights(model))


@torch.no_grad()
@pytest.mark.parametrize("name", PERTURBERS)
def test_reads_and_moves_the_blocks_of_its_key(name: str) -> None:
    """As a direction of all blocks does there, and not at all elsewhere; updates twice as far."""
    quantizer, perturber = PERTURBERS[name]
    model, reading, _ = prepared("llama", quantizer, None, perturber, mask=RandomBlocks())
    every, whole, _ = prepared("llama", quantizer, None, perturber)
    still, _, _ = prepared("llama", quantizer, None, perturber)
    weights, others = perturbed_weights(model), perturbed_weights(every)
    rest = perturbed_weights(still)
    inside = [weight.site.support.includes(KEY) for weight in weights]
    assert len({w.site.support for w, one in zip(weights, inside, strict=True) if one}) == 1
    eps = 3.0 if name == "codes" else 0.05
    with reading.perturbed(KEY, eps, 1), whole.perturbed(KEY, eps, 1):
        for weight, other, at_rest, moves in zip(weights, others, rest, inside, strict=True):
            assert torch.equal(values(weight), values(other) if moves else values(at_rest))
            assert torch.equal(values(weight), values(at_rest)) != moves
    length = 40.0 if "codes" in name or name == "integers" else 0.01
    move(weights, [KEY], [length], 5, [None] * len(weights))
    move(others, [KEY], [2 * length], 5, [None] * len(others))
    for weight, other, at_rest, moves in zip(weights, others, rest, inside, strict=True):
        assert torch.equal(values(weight), values(other) if moves else values(at_rest))
        assert torch.equal(values(weight), values(at_rest)) != moves


@torch.no_grad()
@pytest.mark.parametrize("name", PERTURBERS)
def test_a_pair_reads_both_signs(name: str) -> None:
    quantizer, perturber = PERTURBERS[name]
    model, reading, pairable = prepared("llama", quantizer, None, perturber, mask=RandomBlocks())
    assert pairable
    losses, eps = OptionScoring().losses, 3.0 if name in ("codes", "integers") else 0.05
    for key in range(4):
        wanted = []
        for sign in (1, -1):
            with reading.perturbed(key, sign * eps, 1):
                wanted.append(losses(model, batch("llama"))[0])
        with reading.perturbed(key, eps, 2):
            found = losses(model, batch("llama"), 2)
        torch.testing.assert_close(found, torch.stack(wanted), rtol=1e-5, atol=1e-5)
        assert found[0] != found[1]
