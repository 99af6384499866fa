"""Sparse-MeZO (arXiv 2402.15751, Algorithm 1) beside numpy; what `SmallWeights` refuses."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy_noise
from tiny_runs import module

from zolit.coordinates import Elements
from zolit.errors import UserError
from zolit.formats.dense import DenseWeight
from zolit.formats.int4 import Int4Weight
from zolit.gradient import ProjectedGradient
from zolit.noise import Direction, signed
from zolit.optim import ZOSGD
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    Int4,
    Int8,
    LowRankPerturber,
    ScalePerturber,
    SmallWeights,
    SparsePerturber,
)
from zolit.tensors.below import Below
from zolit.tensors.reading import Reading
from zolit.tensors.site import Site
from zolit.tensors.weight import PerturbedWeight, perturbed_weights

ROWS, COLUMNS, STEPS, LR, EPS = 12, 64, 25, 0.02, 1e-3


def floats(rows: int = ROWS, columns: int = COLUMNS, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def small(scores: np.ndarray, fraction: float) -> float:
    """The size at the target percentile: the largest of the ``fraction`` smallest."""
    return float(np.sort(np.abs(scores), axis=None)[int(fraction * scores.size) - 1])


def test_runs_are_algorithm_1_of_the_paper() -> None:
    """Thresholds before training, the mask of each step by the weights of that step."""
    start, target = floats(), floats(seed=1)

    def loss(weight: np.ndarray) -> float:
        return float(np.square(weight - target.double().numpy()).sum())

    theta = start.double().numpy().copy()
    h = small(theta, 0.3)
    rested = []
    for step in range(STEPS):
        m = np.abs(theta) <= h
        rested.append(m)
        z = m * numpy_noise.direction(ROWS, COLUMNS, 100 + step, 0)
        slope = (loss(theta + EPS * z) - loss(theta - EPS * z)) / (2 * EPS)
        theta -= LR * slope * z

    store, reading = DenseWeight(start.clone()), Reading(Direction(), "reference")
    support = SmallWeights(0.3).choose("w", store, 0, 1)
    assert isinstance(support, Below)
    assert support.count == int(0.3 * store.weight.numel())
    site = Site(0, Elements((0.0, 1.0)), support)
    shape = torch.Size((ROWS, COLUMNS))
    weight = PerturbedWeight(store, site, reading, "w", shape, torch.float32)
    optimizer = ZOSGD([nn.Parameter(weight, requires_grad=False)], LR)
    for step in range(STEPS):
        assert np.array_equal(support.chosen().numpy(), rested[step])
        both = []
        for sign in (1.0, -1.0):
            with reading.perturbed(100 + step, sign * EPS, copies=1):
                both.append(loss(weight.dense().double().numpy()))
        slope = (both[0] - both[1]) / (2 * EPS)
        gradient = ProjectedGradient(torch.tensor([100 + step]), torch.tensor([slope]), 1)
        optimizer.step(gradient=gradient)
    np.testing.assert_allclose(store.weight.numpy(), theta, rtol=0, atol=2e-3)
    # Some weights have come to rest, and none has begun to move.
    assert (rested[0] & ~rested[-1]).sum() > 10
    assert not (~rested[0] & rested[-1]).any()
    still = torch.from_numpy(~rested[0])
    assert torch.equal(store.weight[still], start[still])


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_the_bound_counts_weights_of_its_size(fraction: float) -> None:
    """int4 codes tie often: all of the size of the bound move, as the paper compares with <=."""
    store = Int4Weight.quantize(floats(), 32, symmetric=False)
    support = SmallWeights(fraction).choose("w", store, 0, 1)
    sizes = store.decoded(slice(0, ROWS)).abs().numpy()
    assert np.array_equal(support.chosen().numpy(), sizes <= small(sizes, fraction))


def test_residuals_of_weights_that_rest_are_dropped() -> None:
    """Else error feedback would move them."""
    one = module(
        quantizer=Int8(keep_error=True),
        mask=SmallWeights(0.3),
        optimizer=lambda params: ZOSGD(params, 100.0, error_feedback=True),
    )
    optimizer: Any = one.configure_optimizers()
    first = perturbed_weights(one.network)[0]
    before = first.site.support.chosen()
    for step in range(6):
        keys, values = torch.tensor([signed(40 + step)]), torch.tensor([0.05])
        optimizer.step(gradient=ProjectedGradient(keys, values, step))
    after, codes = first.site.support.chosen(), first.store.codes.clone()
    assert (before & ~after).any()
    assert not optimizer.state[first]["residual"][:, : first.store.columns][~after].any()
    optimizer.step(gradient=ProjectedGradient(torch.tensor([7]), torch.tensor([0.05]), 99))
    assert torch.equal(first.store.codes[~after], codes[~after])


def test_refusals() -> None:
    for fraction in (0.0, 1.5, float("nan")):
        with pytest.raises(UserError, match=r"fraction must be in \(0, 1\], got .*; try 0.2"):
            SmallWeights(fraction)
    with pytest.raises(UserError, match="coordinates of w leaves none"):
        SmallWeights(1e-6).choose("w", DenseWeight(floats()), 0, 1)
    with pytest.raises(UserError, match="all weights of w are of one size"):
        SmallWeights(0.5).choose("w", DenseWeight(torch.zeros(4, 32)), 0, 1)
    with pytest.raises(UserError, match="a weight of w is NaN"):
        SmallWeights(0.5).choose("w", DenseWeight(floats() * float("nan")), 0, 1)
    for perturber, said in (
        (
            SparsePerturber(),
            "got perturber SparsePerturber, whose entries are chosen once",
        ),
        (ScalePerturber(), "got perturber ScalePerturber, which moves scales; use Magnitude"),
        (LowRankPerturber(), "a direction of low rank cannot"),
    ):
        with pytest.raises(UserError, match=said):
            SmallWeights(0.5).check(perturber)
    for perturber in (CodePerturber(), DensePerturber()):
        SmallWeights(0.5).check(perturber)
    assert SmallWeights(0.5).choose("w", Int4(32).store(floats(), "w"), 0, 1).count
