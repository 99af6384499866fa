"""A support by bits on every kind of coordinates: in reads, pairs and steps of several queries."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.coordinates import Coordinates, Elements, OutputScales, Scales, Site
from zolit.coordinates.vectors import Vectors
from zolit.noise import Direction
from zolit.optim import ZOSGD
from zolit.strategies import Int4, Int8, NoQuantizer, Quantizer
from zolit.supports import ALL, Bits, Hashed
from zolit.tensors.extent import extent
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight

ROWS, COLUMNS, KEY, EPS = 40, 96, 77, 0.25
KINDS: dict[str, tuple[Quantizer, Callable[[], Coordinates]]] = {
    "floats": (NoQuantizer(), lambda: Elements((0.0, 1.0))),
    "codes": (Int4(32), lambda: Elements((1.0, 0.0))),
    "each scale": (Int4(32), lambda: Scales((1.0, 0.0))),
    "each scale of rows": (Int8(), lambda: Scales((1.0, 0.0))),
    "output channels": (Int4(32), OutputScales),
}


def weights(name: str, masked: bool) -> tuple[PerturbedWeight, PerturbedWeight, Tensor]:
    """A weight under a mask and another beside it that moves whole; the mask of its elements."""
    quantizer, kind = KINDS[name]
    reading = Reading(Direction("gaussian", 4), "reference", chunk_bytes=5000)
    made = []
    generator = torch.Generator().manual_seed(1)
    for index in (0, 1):
        value = torch.randn(ROWS, COLUMNS, generator=generator)
        store, coordinates = quantizer.store(value, "w"), kind()
        shape = coordinates.shape(store)
        chosen = torch.rand(shape, generator=generator) < 0.4
        support = Bits.of(chosen) if masked and index == 0 else ALL
        site = Site(index, coordinates, support)
        made.append(PerturbedWeight(store, site, reading, "w", value.shape, value.dtype))
        if index == 0:
            of_rows = chosen.view(ROWS, -1)
            mask = of_rows.repeat_interleave(COLUMNS // of_rows.shape[1], 1)
    return made[0], made[1], mask


@pytest.mark.parametrize("name", KINDS)
def test_reads_move_what_has_its_bit(name: str) -> None:
    weight, beside, mask = weights(name, masked=True)
    plain, alike, _ = weights(name, masked=False)
    rest = weight * 1.0
    x = torch.randn(4, 3, COLUMNS, generator=torch.Generator().manual_seed(3))
    signs = []
    for sign in (1, -1):
        with weight.reading.perturbed(KEY, sign * EPS, 1):
            got, other = weight * 1.0, beside * 1.0
        with plain.reading.perturbed(KEY, sign * EPS, 1):
            whole, wanted = plain * 1.0, alike * 1.0
        assert torch.equal(got, torch.where(mask, whole, rest))
        assert torch.equal(other, wanted)
        assert (got != rest).sum() > 0.5 * mask.sum()
        signs.append(got)
    with weight.reading.perturbed(KEY, EPS, 2):
        found = F.linear(x, weight)
    both = torch.cat((F.linear(x[:2], signs[0]), F.linear(x[2:], signs[1])))
    torch.testing.assert_close(found, both)
    index = torch.tensor([[3, 9, 3], [0, 39, 1]])
    with weight.reading.perturbed(KEY, EPS, 2):
        looked = F.embedding(index, weight)
    wanted = torch.stack((signs[0][index[0]], signs[1][index[1]]))
    torch.testing.assert_close(looked, wanted, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", KINDS)
def test_steps_of_several_queries_move_what_has_its_bit(name: str) -> None:
    made = weights(name, masked=True), weights(name, masked=False)
    (weight, beside, mask), (plain, alike, _) = made
    rest = weight * 1.0
    for one, other, _ in made:
        move([one, other], [3, 4, 5], [0.3, -0.2, 0.1], 9, [None, None])
    assert torch.equal(weight * 1.0, torch.where(mask, plain * 1.0, rest))
    assert torch.equal(beside * 1.0, alike * 1.0)
    assert (weight * 1.0 != rest).sum() > 0.1 * mask.sum()


def test_the_length_of_a_direction_counts_what_moves() -> None:
    weight, beside, mask = weights("floats", masked=True)
    moving = mask.sum().item()
    assert weight.site.support.density == moving / mask.numel()
    assert extent(weight).length == pytest.approx(moving**0.5)
    assert extent(beside).length == pytest.approx(mask.numel() ** 0.5)


def test_error_feedback_leaves_the_others_alone() -> None:
    """What quantization left of a coordinate that stays is not made up for by its first step."""
    weight, _, mask = weights("codes", masked=True)
    weight.store.error = torch.full((ROWS, COLUMNS), 0.75, dtype=torch.float16)
    before = weight * 1.0
    optimizer = ZOSGD([weight], lr=1.0, error_feedback=True)
    feedback = optimizer._feedback(weight, optimizer.param_groups[0])
    assert torch.equal(feedback.residual != 0, mask)
    move([weight], [3], [1e-9], 1, [feedback])
    moved = weight * 1.0 != before
    assert not (moved & ~mask).any()
    assert moved.sum() > 0.5 * mask.sum()


def test_words_of_vectors_with_and_without_bits() -> None:
    vectors = Vectors.of([40, 3], torch.device("cpu"))
    assert vectors.joined([ALL.bits(), Hashed(0.5, 1).bits()]) is None
    bits = Bits.of(torch.tensor([[True, False, True]])).bits()
    assert vectors.joined([None, bits]).tolist() == [[-1], [-1], [5]]


def test_a_weight_takes_its_bits_along_to_another_device() -> None:
    weight, _, _ = weights("codes", masked=True)
    there = weight.to("meta")
    assert there.site.support.bits().device.type == "meta"
    assert there.site.index == weight.site.index
    assert weight.detach().site is weight.site
