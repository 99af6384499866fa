"""The largest of many scores beside a sort: with ties, zeros of both signs, infinities."""

import doctest

import numpy as np
import pytest
import torch
from torch import Tensor

from zolit.strategies.mask import selection
from zolit.strategies.mask.selection import Largest, largest_of_rows, places, quantiles

SCORES = {
    "normal": torch.randn(7, 300, generator=torch.Generator().manual_seed(0)),
    "few values": torch.randint(-3, 4, (7, 300), generator=torch.Generator().manual_seed(1)) / 2.0,
    "close": 1.0 + torch.arange(2100).view(7, 300) % 50 * 2.0**-23,
    "tiny": torch.arange(-1050, 1050).view(7, 300) * 1e-44,
    "ends": torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 1.0] * 420).view(7, 300),
}


def parts(scores: Tensor) -> list[Tensor]:
    return [scores[:1], scores[1:4], scores[4:]]


def by_sort(scores: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` largest, of equal ones the first: -scores sorted stably."""
    order = np.argsort(-scores.ravel(), kind="stable")
    found = np.zeros(scores.size, dtype=bool)
    found[order[:count]] = True
    return found.reshape(scores.shape)


def test_examples() -> None:
    assert doctest.testmod(selection).failed == 0


@pytest.mark.parametrize("count", [1, 2, 99, 1049, 1050, 2099, 2100])
@pytest.mark.parametrize("name", SCORES)
def test_the_largest_of_all(name: str, count: int) -> None:
    scores = SCORES[name]
    largest = Largest(lambda: parts(scores), scores.numel(), count)
    found = torch.cat([largest.of(part) for part in parts(scores)])
    wanted = by_sort(scores.numpy(), count)
    assert np.array_equal(found.numpy(), wanted)
    last = scores.numpy()[wanted].min()
    assert largest.ties == (scores.numpy() == last).sum() - (scores.numpy()[wanted] == last).sum()


@pytest.mark.parametrize("count", [1, 100, 300])
@pytest.mark.parametrize("name", SCORES)
def test_the_largest_of_each_row(name: str, count: int) -> None:
    scores = SCORES[name]
    wanted = np.stack([by_sort(row, count) for row in scores.numpy()])
    assert np.array_equal(largest_of_rows(scores, count).numpy(), wanted)


@pytest.mark.parametrize("name", SCORES)
def test_scores_by_their_rank(name: str) -> None:
    scores = SCORES[name]
    ranks = [0, 1, 777, 1500, 2099]
    in_order = np.sort(scores.numpy().ravel())
    for place, rank in zip(places(lambda: parts(scores), ranks), ranks, strict=True):
        assert place.score == in_order[rank]
        assert place.below == (in_order < in_order[rank]).sum()
        assert place.equal == (in_order == in_order[rank]).sum()


@pytest.mark.parametrize("name", ["normal", "few values", "close"])
def test_quantiles_are_those_of_numpy(name: str) -> None:
    scores, shares = SCORES[name], [0.0, 0.25, 0.5, 0.75, 0.999, 1.0]
    found = quantiles(lambda: parts(scores), scores.numel(), shares)
    np.testing.assert_allclose(found, np.quantile(scores.double().numpy(), shares), rtol=1e-12)
