"""Estimates on a quadratic, whose gradient is known: unbiased, with the variance of theory.

A linear layer under a squared loss is quadratic in its elements, so a central difference is
exact and ``value = g . u_1``. Inputs are -1, 0 or 1, which activation formats hold exactly.
Bounds: |z| < 5 for each statistic (6e-7), fixed seeds.
"""

import math

import numpy as np
import pytest
import torch
from numpy_noise import control_words
from recipes import WORKING, Recipe, estimate, module
from torch import Tensor, nn

from zolit.coordinates import Entries, LowRank, OutputScales, Scales
from zolit.noise import coordinates, fold
from zolit.objectives.base import Objective
from zolit.tensors.update import move
from zolit.training.zero_order import ZeroOrderModule

ROWS, COLUMNS, KEYS = 3, 64, 300

QUICK = [
    Recipe("NoQuantizer", "DensePerturber"),
    Recipe("NoQuantizer", "DensePerturber, rademacher", "RandomMask"),
    Recipe("Int8", "CodePerturber"),
    Recipe("Int8", "CodePerturber, unit weight"),
    Recipe("Int8", "ScalePerturber"),
    Recipe("Int8, groups", "CodePerturber, rademacher", "RandomMask"),
    Recipe("Int8, activations int8", "CodePerturber"),
    Recipe("Int4", "CodePerturber", "RandomMask"),
    Recipe("Int4", "ScalePerturber, rademacher"),
    Recipe("Int4", "ScalePerturber, group", "RandomMask"),
    Recipe("Int8, groups", "ScalePerturber, absolute"),
    Recipe("Int8", "ScalePerturber, absolute"),
    Recipe("Float8", "CodePerturber, unrounded"),
    Recipe("Float8, activations float8", "CodePerturber, rademacher"),
    Recipe("Int4", "CodePerturber", "Magnitude"),
    Recipe("Int8, activations int8", "CodePerturber, rademacher", "Outliers"),
    Recipe("Int4", "ScalePerturber, group", "Magnitude"),
    Recipe("Int4", "SparsePerturber", "RandomMask"),
    Recipe("SqueezeLLM", "SparsePerturber", "Magnitude"),
    Recipe("NoQuantizer", "DensePerturber", "Sensitive"),
    Recipe("Int4", "ScalePerturber, group", "FromFile"),
]
ALL = [r for r in WORKING if r.estimator == "TwoPoint" and r not in QUICK]


class SquaredError(Objective):
    """Mean over the batch of ``|W x - y|^2 / 2``."""

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor], copies: int = 1) -> Tensor:
        x, y = (part.repeat(copies, 1) for part in batch)
        return ((model(x) - y) ** 2).double().view(copies, -1).mean(1) * ROWS / 2


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randint(-1, 2, (8, COLUMNS), generator=generator).float()
    return x, torch.randn(8, ROWS, generator=generator)


def quadratic(recipe: Recipe) -> ZeroOrderModule:
    layer = nn.Linear(COLUMNS, ROWS, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(2)))
    model = nn.Sequential(layer)
    one = module(recipe, model=model, objective=SquaredError())
    one.adopt(model)
    # Codes at the edge of the range are held in place by int8 products.
    store = one.weights[0].store
    if "int8" in recipe.quantizer:
        store.codes.clamp_(-100, 100)
    return one


def gradient(one: ZeroOrderModule) -> np.ndarray:
    """dL/d(coordinate) at rest in float64, of the coordinates' shape."""
    weight = one.weights[0]
    store, site = weight.store, weight.site
    x, y = (part.double() for part in batch())
    value = weight.dense().double()
    by_weight = (x @ value.T - y).T @ x / len(x)
    if isinstance(site.coordinates, Entries):
        return by_weight.flatten()[store.positions].numpy()
    unit = site.coordinates.unit
    if isinstance(site.coordinates, OutputScales):
        return (by_weight * value).sum(1).numpy() * unit
    if isinstance(site.coordinates, Scales):
        scale = store.scale.double()
        by_scale = (by_weight * value).view(ROWS, scale.shape[1], -1).sum(2) / scale
        return (by_scale * (unit[0] * scale + unit[1])).numpy()
    length = torch.full((1, 1), unit[1], dtype=torch.float64)
    if store.quantized:
        wide = store.scale.double().repeat_interleave(COLUMNS // store.scale.shape[1], 1)
        length = length + unit[0] * wide
    return (by_weight * length).numpy()


def update_direction(one: ZeroOrderModule, key: int, update: bool) -> np.ndarray:
    site = one.weights[0].site
    marks, bits = site.support.words(site.index) or (), site.support.bits()
    words = [*control_words(key, site.index, update=update), *marks]
    control, direction = torch.tensor(words, dtype=torch.int32), one.reading.direction
    if isinstance(site.coordinates, Entries):
        count = len(one.weights[0].store.values)
        words_of_entries = torch.arange(-(-count // 32), dtype=torch.int32)
        z = coordinates(direction, control, words_of_entries, 1, 1)
        return z.flatten()[:count].numpy()
    if isinstance(site.coordinates, OutputScales):
        row = torch.zeros(1, dtype=torch.int32)
        return coordinates(direction, control, row, 1, 1, bits).flatten()[:ROWS].numpy()
    if isinstance(site.coordinates, Scales):
        groups, rows = one.weights[0].store.scale.shape[1], torch.arange(ROWS).int()
        z = coordinates(direction, control, rows, 1, 1, bits)
        return z[:, 0, 0, :groups].numpy()
    if isinstance(site.coordinates, LowRank):
        u, v = (factor(one, fold(key, side), n) for side, n in ((6, ROWS), (7, COLUMNS)))
        return u.T @ v / math.sqrt(len(u))
    rows = torch.arange(ROWS, dtype=torch.int32)
    z = coordinates(direction, control, rows, 1, COLUMNS // 32, bits)
    return z.view(ROWS, COLUMNS).numpy()


def factor(one: ZeroOrderModule, key: int, length: int) -> np.ndarray:
    """One side of a direction of low rank: vector k has the counters from 512 k on."""
    direction = one.reading.direction
    control = torch.tensor(control_words(key, one.weights[0].site.index))
    z = coordinates(direction, control.int(), torch.arange(direction.rank).int(), 1, 16)
    return z.view(direction.rank, 512)[:, :length].numpy()


def z_score(samples: np.ndarray, mean: float) -> float:
    spread = samples.std(ddof=1) / math.sqrt(len(samples))
    return (samples.mean() - mean) / max(spread, 1e-9 * abs(mean), 1e-30)


@pytest.mark.parametrize(
    "recipe", [*QUICK, *(pytest.param(r, marks=pytest.mark.slow) for r in ALL)], ids=str
)
def test_unbiased_with_the_variance_of_theory(recipe: Recipe) -> None:
    one = quadratic(recipe)
    g = gradient(one)
    keys = [fold(5, key) for key in range(KEYS)]
    values = estimate(one, keys, batch()).double().numpy()
    reads = np.stack([update_direction(one, key, False) for key in keys]).astype(np.float64)
    directions = np.stack([update_direction(one, key, True) for key in keys]).astype(np.float64)

    # The central difference of a quadratic is exact.
    slopes = (reads * g).reshape(KEYS, -1).sum(1)
    size = np.abs(slopes).max()
    np.testing.assert_allclose(values, slopes, atol=3e-3 * size)

    kept = (directions != 0).any(0)
    target = np.where(kept, g, 0.0)
    if recipe.mask == "NoMask":
        assert kept.mean() > 0.9
    estimates = values.reshape(-1, *[1] * g.ndim) * directions
    scores = [
        z_score(e, t) for e, t in zip(estimates.reshape(KEYS, -1).T, target.ravel(), strict=True)
    ]
    assert np.abs(scores).max() < 5
    along = (estimates * target).reshape(KEYS, -1).sum(1) / (target**2).sum()
    assert abs(z_score(along, 1.0)) < 5
    assert z_score(along, 0.0) > 5

    # E value^2 = sum_i g_i^2 E z_i^2; rounding to a grid of step s adds about s^2 / 6.
    direction = one.reading.direction
    rounding = direction.grid_step**2 / 6 if direction.bits is not None else 0.0
    second = (target**2).sum() * (1 + rounding)
    assert abs(z_score(values**2, second)) < 5
    if direction.distribution == "rademacher":
        count = kept.sum()
        sizes = (estimates**2).reshape(KEYS, -1).sum(1)
        np.testing.assert_allclose(sizes, values**2 * count, rtol=1e-6)


@pytest.mark.parametrize("name", ["Int8", "Int4"])
def test_a_rounded_step_is_the_descent_step_on_average(name: str) -> None:
    """Update of codes by a fraction of a code: mean over 200 rounding keys, |z| < 5 for each."""
    recipe = Recipe(name, "CodePerturber, rademacher")
    moved = []
    for rounding in range(200):
        one = quadratic(recipe)
        weight = one.weights[0]
        before = weight.dense() / 1
        move([weight], [9], [-0.05], fold(rounding, 1), [None])
        moved.append((weight.dense() - before).double().numpy())
    scale = weight.store.scale.repeat_interleave(COLUMNS // weight.store.scale.shape[1], 1)
    wanted = -0.05 * update_direction(one, 9, True) * scale.numpy()
    jumps = np.stack(moved)
    edge = np.abs(jumps).max(0) == 0  # outward at the end of the range: gated
    assert edge.mean() < (0.2 if name == "Int4" else 0.05)
    spread = jumps.std(0, ddof=1) / math.sqrt(200)
    scores = (jumps.mean(0) - wanted) / np.where(edge, np.inf, spread)
    assert np.abs(scores).max() < 5
