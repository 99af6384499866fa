"""Clusters on a line against all partitions, and against dynamic programming over all places."""

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from zolit.strategies.quantizer.kmeans import CELLS, nearest, weighted_kmeans_1d


def loss(values: Tensor, weights: Tensor, centres: Tensor) -> np.ndarray:
    """Of each row, with every value at its nearest centre by comparison with all."""
    distance = (values.double().unsqueeze(2) - centres.unsqueeze(1)).abs().amin(2)
    return (weights.double() * distance.square()).sum(1).numpy()


def interval_losses(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """``[n + 1, n + 1]``: loss of the sorted values from one place to another, each by itself."""
    found = np.full((len(x) + 1, len(x) + 1), np.inf)
    for start in range(len(x) + 1):
        weight, moment, square = (
            np.concatenate(
                ([0.0], np.cumsum(w[start:] * (x[start:] - x[start : start + 1]) ** power))
            )
            for power in range(3)
        )
        found[start, start:] = square - moment**2 / np.where(weight > 0, weight, 1)
    return np.maximum(found, 0)


def all_partitions(x: np.ndarray, w: np.ndarray, clusters: int) -> float:
    losses = interval_losses(x, w)
    borders = itertools.combinations_with_replacement(range(len(x) + 1), clusters - 1)
    ends = ((0, *inner, len(x)) for inner in borders)
    return min(sum(losses[a, b] for a, b in itertools.pairwise(end)) for end in ends)


def dynamic_programming(x: np.ndarray, w: np.ndarray, clusters: int) -> float:
    losses = interval_losses(x, w)
    best = losses[0]
    for _ in range(clusters - 1):
        best = (best[:, None] + losses).min(axis=0)
    return float(best[-1])


def optimum(values: Tensor, weights: Tensor, clusters: int, search: object) -> np.ndarray:
    order = values.argsort(1)
    rows = zip(values.gather(1, order).double(), weights.gather(1, order).double(), strict=True)
    return np.array([search(x.numpy(), w.numpy(), clusters) for x, w in rows])  # type: ignore


def drawn(rows: int, columns: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Normal values, some far out, and weights over six orders of magnitude, some of them 0."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, columns, generator=generator)
    values *= 1 + 4 * (torch.rand(rows, columns, generator=generator) < 0.01)
    weights = torch.randn(rows, columns, generator=generator).mul(3).exp()
    return values, weights * (torch.rand(rows, columns, generator=generator) < 0.9)


@pytest.mark.parametrize(("columns", "clusters"), [(1, 2), (2, 2), (9, 2), (12, 3), (10, 5)])
def test_short_rows_are_the_best_of_all_partitions(columns: int, clusters: int) -> None:
    values, weights = drawn(12, columns)
    weights[0, :] = 1.0
    weights[1, 1:] = 0.0
    values[2] = values[2].round()  # equal ones
    centres, _ = weighted_kmeans_1d(values, weights, clusters)
    counted = torch.where(weights.sum(1, keepdim=True) > 0, weights, 1.0)
    wanted = optimum(values, counted, clusters, all_partitions)
    found = loss(values, counted, centres)
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("columns", [CELLS - 1, CELLS])
def test_rows_within_the_grid_are_exact(columns: int) -> None:
    values, weights = drawn(8, columns)
    centres, _ = weighted_kmeans_1d(values, weights, 8)
    wanted = optimum(values, weights, 8, dynamic_programming)
    np.testing.assert_allclose(loss(values, weights, centres), wanted, rtol=1e-6)


@pytest.mark.parametrize("alike", [True, False])
def test_long_rows_are_close_to_the_optimum(alike: bool) -> None:
    """Within a thousandth in the mean and a hundredth each of dynamic programming's loss."""
    values, weights = drawn(12, 700, seed=1)
    weights = torch.ones_like(values) if alike else weights
    centres, _ = weighted_kmeans_1d(values, weights, 16)
    excess = loss(values, weights, centres) / optimum(values, weights, 16, dynamic_programming) - 1
    assert excess.min() > -1e-9
    assert excess.mean() < 1e-3
    assert excess.max() < 1e-2


def test_codes_are_those_of_the_nearest_centre() -> None:
    values, weights = drawn(5, 300)
    centres, codes = weighted_kmeans_1d(values, weights, 8)
    assert (centres.diff(dim=1) >= 0).all()
    distances = (values.double().unsqueeze(2) - centres.unsqueeze(1)).abs()
    assert torch.equal(distances.gather(2, codes.unsqueeze(2))[..., 0], distances.amin(2))
    halfway = nearest(torch.tensor([[0.5, 1.5, 9.0]]), torch.tensor([[0.0, 1.0, 2.0]]))
    assert halfway.tolist() == [[0, 1, 2]]


def test_values_without_weight_have_no_influence() -> None:
    values, weights = drawn(4, 200)
    other = torch.where(weights > 0, values, 7 - 3 * values)
    one, two = (weighted_kmeans_1d(v, weights, 8)[0] for v in (values, other))
    # Places of the grid are also laid by the number of values, so a long row may differ a little.
    np.testing.assert_allclose(loss(values, weights, one), loss(values, weights, two), rtol=2e-2)
    one, two = (weighted_kmeans_1d(v[:, :CELLS], weights[:, :CELLS], 8)[0] for v in (values, other))
    torch.testing.assert_close(one, two)


def test_a_row_without_weights_counts_all_alike() -> None:
    values, _ = drawn(3, 150)
    nothing = weighted_kmeans_1d(values, torch.zeros(3, 150), 4)[0]
    torch.testing.assert_close(nothing, weighted_kmeans_1d(values, torch.ones(3, 150), 4)[0])


def test_weights_are_repetitions() -> None:
    values, _ = drawn(3, 20)
    times = torch.arange(1, 21) % 3 + 1
    repeated = values.repeat_interleave(times, 1)
    wanted = weighted_kmeans_1d(repeated, torch.ones_like(repeated), 4)[0]
    torch.testing.assert_close(weighted_kmeans_1d(values, times.expand(3, -1), 4)[0], wanted)


def test_fewer_values_than_clusters() -> None:
    values = torch.tensor([[2.0, 5.0, 2.0, 5.0], [3.0, 3.0, 3.0, 3.0]])
    centres, codes = weighted_kmeans_1d(values, torch.ones(2, 4), 8)
    assert torch.equal(centres.gather(1, codes).float(), values)
    long = torch.full((2, 100), -0.25)
    centres, codes = weighted_kmeans_1d(long, torch.ones(2, 100), 4)
    torch.testing.assert_close(centres.gather(1, codes).float(), long)


def test_rows_are_clustered_one_by_one() -> None:
    """In whatever chunks, at whatever size of values and weights, far from 0 too."""
    values, weights = drawn(70, 1000)
    whole = weighted_kmeans_1d(values, weights, 16)[0]
    torch.testing.assert_close(
        whole[66:69], weighted_kmeans_1d(values[66:69], weights[66:69], 16)[0]
    )
    tiny = weighted_kmeans_1d(2**-90 * values.double(), weights, 16)[0]
    torch.testing.assert_close(tiny * 2.0**90, whole)
    moved = weighted_kmeans_1d(2**-9 * values.double() + 8, 2**-60 * weights.double(), 16)[0]
    before, after = loss(values, weights, whole), loss(values, weights, (moved - 8) * 2**9)
    np.testing.assert_allclose(after, before, rtol=1e-4)


def test_estimates_run_it_without_numbers() -> None:
    values = torch.empty(300, 2000, device="meta")
    centres, codes = weighted_kmeans_1d(values, values, 16)
    assert (centres.shape, codes.shape) == ((300, 16), (300, 2000))
