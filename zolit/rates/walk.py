"""The learning rate with which the noise of a whole run costs as much as a run can bear.

A step moves the weights along random directions, by slopes that one batch has. Most of that is
noise: along a coordinate the steps add up as those of a random walk. After a run of T steps of n
directions with rate lr_t, its displacement is as that of a single random direction of length

    ``reach**2 = sum_t lr_t**2 * sum_q c_q**2``     c_q: factor of direction q, d_q / n for SGD

whatever the number of coordinates. What such a displacement costs can be read: the mean rise of the
loss at that distance on both sides of a random direction, ``rise(reach)``. The rate is the one at
which it is a given part of the loss.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from zolit.rates.line import Line


@dataclass(frozen=True)
class Schedule:
    """The learning rates of a run's steps, as factors of the first.

    Attributes:
        steps: their number.
        total: sum of the factors.
        squares: sum of the squares of the factors.

    Example:
        >>> Schedule(3, 3.0, 3.0).steps
        3
    """

    steps: int
    total: float
    squares: float


def schedule_of(factory: Callable[[torch.optim.Optimizer], Any] | None, steps: int) -> Schedule:
    """The schedule of a run.

    Args:
        factory: makes a schedule of torch from an optimizer; None for a constant rate.
        steps: of the run.
    """
    if factory is None:
        return Schedule(steps, float(steps), float(steps))
    # One that holds nothing: the rates do not depend on what the optimizer moves.
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = factory(optimizer)
    total = squares = 0.0
    for _ in range(steps):
        factor = float(optimizer.param_groups[0]["lr"])
        total, squares = total + factor, squares + factor**2
        optimizer.step()
        scheduler.step()
    return Schedule(steps, total, squares)


def reach_of(lines: Sequence[Line], rise: float) -> float | None:
    """The distance along a random direction at which the loss has risen by so much on average.

    Args:
        lines: along some directions, read at the same distances.
        rise: of the loss.

    Returns:
        In units of the coordinate, between the distances that were read; None if the loss does not
        rise so far.
    """
    steps = lines[0].distances.tolist()
    rises = torch.stack([line.rises for line in lines]).mean(dim=0).tolist()
    beyond = next((k for k, one in enumerate(rises) if one >= rise), None)
    if beyond is None:
        return None
    far, high = steps[beyond], rises[beyond]
    if beyond == 0 or rises[beyond - 1] <= 0:
        return float(far * math.sqrt(rise / high))  # as a parabola
    near, low = steps[beyond - 1], rises[beyond - 1]
    part = math.log(rise / low) / math.log(high / low)
    return float(near * (far / near) ** part)


def rate_for(reach: float, length: float, schedule: Schedule, grid: float = 0.0) -> float:
    """The rate whose steps add up to a reach.

    Rounding at random onto a grid of spacing ``grid`` adds to the walk: a move of v, much shorter
    than the spacing, becomes a whole one with probability v / grid, which has the variance
    ``|v| * grid``. Its sum over the steps grows with the rate and not with its square.

    Args:
        reach: in units of the coordinate.
        length: of a step with rate 1: the root of the sum of its directions' squared factors.
        schedule: of the run.
        grid: in units of the coordinate; 0 if nothing is rounded, or the errors are carried on.
    """
    square = length**2 * schedule.squares
    linear = rounding_variance(length, schedule, grid)
    return 2 * reach**2 / (linear + math.sqrt(linear**2 + 4 * square * reach**2))


def rounding_variance(length: float, schedule: Schedule, grid: float) -> float:
    """The squared displacement that rounding at random adds in a run, for a rate of 1.

    Args:
        length: see `rate_for`.
        schedule: of the run.
        grid: in units of the coordinate.
    """
    return math.sqrt(2 / math.pi) * length * grid * schedule.total
