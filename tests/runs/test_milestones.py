"""When a log file gets a line."""

from itertools import pairwise

import pytest

from zolit.runs.milestones import Milestones


@pytest.mark.parametrize("total", [1, 2, 9, 10, 11, 19, 95, 100, 101, 1234])
def test_at_most_ten_evenly_spread_and_the_last(total: int) -> None:
    lines = Milestones()
    told = [done for done in range(1, total + 1) if lines.due(done, total)]
    assert len(told) <= 10
    assert len(told) >= min(total, 5)
    assert told[-1] == total
    distances = {after - before for before, after in pairwise(told[:-1])}
    assert len(distances) <= 1


def test_as_the_user_chose() -> None:
    lines = Milestones()
    assert [done for done in range(1, 8) if lines.due(done, 7, every=3)] == [3, 6, 7]


def test_of_a_stage_that_goes_on() -> None:
    lines = Milestones(lines=2)
    lines.start(5)
    assert [done for done in range(5, 11) if lines.due(done, 10)] == [10]


def test_of_unknown_length() -> None:
    lines = Milestones()
    told = [done for done in range(1, 1001) if lines.due(done, None)]
    assert told == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
