"""SparsePerturber: what it is refused with, what quantizers leave out for it, and its rate."""

import pytest
import torch
from torch import Tensor

from zolit.coordinates import Entries, Site
from zolit.errors import UserError
from zolit.formats.int8 import Int8Weight
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.models.overlay import overlaid
from zolit.strategies import (
    HQQ,
    Float8,
    Int4,
    Int8,
    NoMask,
    NoQuantizer,
    Quantizer,
    RandomBlocks,
    RandomMask,
    SparsePerturber,
    SqueezeLLM,
    Stored,
)
from zolit.strategies.quantizer.excluded import filled
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight

QUANTIZERS = [
    Int8(),
    Int8(32),
    Int4(32),
    Int4(64, symmetric=True),
    HQQ(32),
    Float8(),
    SqueezeLLM(),
]


def matrix() -> Tensor:
    return torch.randn(8, 128, generator=torch.Generator().manual_seed(1))


class OldInt8(Quantizer):
    def store(self, weight: Tensor, path: str) -> Int8Weight:
        return Int8Weight.quantize(weight, None)


@pytest.mark.parametrize(
    ("quantizer", "said"),
    [
        (NoQuantizer(), "NoQuantizer, which makes no codes; use DensePerturber"),
        (Int8(activations="int8"), "products are of integers; use activations: float"),
        (Int4(keep_error=True), "use keep_error: false"),
        (OldInt8(), "OldInt8, whose store has no argument for them; use Int4"),
    ],
)
def test_quantizers_that_it_is_refused_with(quantizer: Quantizer, said: str) -> None:
    with pytest.raises(UserError, match=said):
        SparsePerturber().check(quantizer)


@pytest.mark.parametrize("quantizer", [*QUANTIZERS, Stored()])
def test_quantizers_that_it_takes(quantizer: Quantizer) -> None:
    SparsePerturber().check(quantizer)


@pytest.mark.parametrize("mask", [NoMask(), RandomBlocks()])
def test_masks_that_choose_no_single_entries_are_refused(mask: NoMask) -> None:
    with pytest.raises(UserError, match=f"got mask {type(mask).__name__}; use Sensitive"):
        mask.check(SparsePerturber())
    RandomMask(0.1).check(SparsePerturber())


@pytest.mark.parametrize("quantizer", QUANTIZERS, ids=lambda one: type(one).__name__)
def test_excluded_entries_have_no_part_in_the_scales(quantizer: Quantizer) -> None:
    """Outliers at the chosen entries: the others are read as without the outliers."""
    at = torch.arange(3, 8 * 128, 47)
    weight = matrix()
    weight.view(-1)[at] = 1000.0 + torch.arange(len(at))
    made = overlaid(quantizer, weight, "w", lambda one: at)
    assert isinstance(made, SparseOverlay)
    assert torch.equal(made.values, weight.view(-1)[at])
    read = torch.empty(8, 128)
    made.read(slice(0, 8), [read], None, "reference")
    assert torch.equal(read.view(-1)[at], weight.view(-1)[at])
    others = torch.ones(8 * 128, dtype=torch.bool).index_fill_(0, at, False)
    error = (read - weight).view(-1)[others].abs().max()
    assert error < 0.5  # with the outliers a code would be wider than 3


def test_the_mean_of_the_others_fills_a_group() -> None:
    weight = torch.tensor([[1.0, 9.0, 3.0, 5.0], [7.0, 7.0, 2.0, 4.0]])
    excluded = torch.tensor([[False, True, False, False], [True, True, False, False]])
    assert filled(weight, excluded, 2).tolist() == [[1.0, 1.0, 3.0, 5.0], [0.0, 0.0, 2.0, 4.0]]
    assert filled(weight, excluded, None)[1].tolist() == [3.0, 3.0, 2.0, 4.0]
    assert filled(weight, None, 2) is weight
    assert filled(weight.bfloat16(), excluded, None).dtype == torch.bfloat16


def test_a_rate_that_a_sensitive_choice_bears() -> None:
    """As DensePerturber's for the whole matrix, whatever the mask leaves of it."""
    made = overlaid(Int8(), matrix(), "w", lambda one: torch.arange(0, 1024, 20))
    shape = torch.Size((8, 128))
    weight = PerturbedWeight(made, Site(0, Entries()), Reading(), "w", shape, torch.float32)
    assert SparsePerturber().default_lr([weight], 1) == 2e-3
    assert SparsePerturber().coordinates(made) == Entries()
    with pytest.raises(UserError, match="got Int8Weight without"):
        SparsePerturber().coordinates(Int8().store(matrix(), "w"))
