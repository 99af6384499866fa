"""Supports as data: what kernels are told of them, and how often a direction moves a weight."""

import doctest

import numpy as np
import pytest
import torch

from zolit import supports
from zolit.noise import DRAWS, Direction, control_table, coordinates, split_key
from zolit.supports import ALL, Blocks, Hashed, support_table


def test_examples() -> None:
    assert doctest.testmod(supports).failed == 0


@pytest.mark.parametrize("fraction", [1e-9, 0.05, 0.25, 0.3, 0.999])
def test_draws_below_the_fraction_move(fraction: float) -> None:
    """As float32 compares a draw on a grid of 2**-24 with the fraction."""
    high, low, inside = Hashed(fraction, 7).words(3)
    assert (high, low) == split_key(supports.fold(7, 3, 5))
    draws = np.array([0, 1, inside - 1, inside, DRAWS - 1])
    below = (draws * 2.0**-24).astype(np.float32) < np.float32(fraction)
    assert ((draws < inside) == below).all()


def test_a_table_for_weights_of_several_supports() -> None:
    assert support_table([(0, ALL), (1, Blocks(0, 4, 1)), (2, Hashed(1.0, 5))]) is None
    table = support_table([(0, ALL), (4, Hashed(0.5, 9))])
    assert table.tolist() == [[0, 0, DRAWS], list(Hashed(0.5, 9).words(4))]


@pytest.mark.parametrize("distribution", ["gaussian", "rademacher"])
def test_all_beside_a_random_subset_moves_whole(distribution: str) -> None:
    words = control_table(11, [0, 4])
    table = support_table([(0, ALL), (4, Hashed(0.5, 9))])
    rows, direction = torch.zeros(2, dtype=torch.int32), Direction(distribution)
    plain = coordinates(direction, words, rows, 1, 8)
    masked = coordinates(direction, torch.cat((words, table), dim=1), rows, 1, 8)
    assert torch.equal(masked[0], plain[0])
    kept = masked[1] != 0
    assert 0.3 < kept.float().mean() < 0.7
    assert torch.equal(masked[1][kept], plain[1][kept])


def test_directions_that_move_a_block_count_for_those_that_do_not() -> None:
    assert (ALL.importance_weight, Hashed(0.1, 0).importance_weight) == (1.0, 1.0)
    assert Blocks(0, 3, 5).importance_weight == 1.0
    support = Blocks(block=2, count=4, moving=1)
    hits = [support.includes(key) for key in range(2000)]
    # Five standard errors of 2000 draws with odds of a quarter.
    assert abs(np.mean(hits) - 1 / support.importance_weight) < 5 * (0.25 * 0.75 / 2000) ** 0.5
