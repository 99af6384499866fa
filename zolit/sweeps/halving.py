"""Successive halving: all points make a few steps, the best of them more.

Jamieson and Talwalkar (2016), arXiv 1502.07943, algorithm 1, with a reduction of its own in the
place of 2, as in Hyperband (Li et al. 2018, arXiv 1603.06560, algorithm 1, lines 5 to 9). Two
things differ. The number of points that go on is rounded up: two of four go on with a reduction of
three, where the papers keep one. And the last number of steps is the full one, whatever the number
of points.
"""

from collections.abc import Mapping, Sequence
from typing import TypeVar

Name = TypeVar("Name")
Rank = tuple[float, ...]
"""Larger is better; compared from the left."""


def budgets(points: int, steps: int, reduction: int, first: int | None, each: int = 1) -> list[int]:
    """Numbers of steps after which points are stopped, and at the end the full number.

    Args:
        points: how many there are.
        steps: that a point makes which is never stopped.
        reduction: of the points, one in so many goes on.
        first: the first number; None for ``steps / reduction ** k``, with the largest ``k`` for
            which ``reduction ** k`` is not more than ``points``.
        each: steps between two validations; the numbers are rounded up to multiples of it.

    Returns:
        Increasing numbers, the last of which is ``steps``.

    Example:
        >>> budgets(9, 270, 3, None)
        [30, 90, 270]
        >>> budgets(9, 270, 3, None, each=50)
        [50, 100, 270]
        >>> budgets(2, 270, 3, None)
        [270]
    """
    if first is None:
        wanted, power = [steps], reduction
        while power <= points:
            wanted.append(_quotient(steps, power))
            power *= reduction
    else:
        wanted = [first]
        while wanted[-1] * reduction < steps:
            wanted.append(wanted[-1] * reduction)
    rounded = {each * _quotient(one, each) for one in wanted}
    return [*sorted(one for one in rounded if one < steps), steps]


def survivors(ranks: Mapping[Name, Rank], reduction: int) -> list[Name]:
    """The points that go on, the best first: one in ``reduction``, rounded up.

    Of two that are alike the one that stands first is better.

    Args:
        ranks: of the points.
        reduction: of the points, one in so many goes on.

    Example:
        >>> survivors({"a": (0.1,), "b": (0.3,), "c": (0.2,), "d": (0.0,)}, 3)
        ['b', 'c']
    """
    return ordered(ranks)[: _quotient(len(ranks), reduction)]


def ordered(ranks: Mapping[Name, Rank]) -> list[Name]:
    """The points, the best first."""
    names: Sequence[Name] = list(ranks)
    return sorted(names, key=lambda one: ranks[one], reverse=True)


def _quotient(one: int, two: int) -> int:
    """Rounded up."""
    return -(-one // two)
