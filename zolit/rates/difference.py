"""How wrong a difference of losses is as a slope, and the eps at which it is least wrong."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.rates.line import Line

_POINTS = 200
"""Candidates for eps between the shortest and the longest distance that was read."""


@dataclass(frozen=True)
class DifferenceError:
    """The error of a slope that is taken from a difference, over eps.

    Of both sides, with independent rounding errors of size ``noise`` in the two losses and a cubic
    term ``bend`` of the loss along the direction::

        error**2 = noise**2 / (2 eps**2) + bend**2 eps**4

    Of one side, ``(L(eps) - L(0)) / eps``, the curvature counts too: ``spread * eps``, of which the
    mean over the directions of a step does not matter where the estimator removes what they share.

    Attributes:
        noise: error of the loss of a read, in units of the loss.
        bend: in units of the loss per cubed unit of the coordinate.
        spread: of one side, in units of the loss per squared unit of the coordinate; 0 for both.
        reads: how many independent rounding errors a difference has, each over eps: 1/2 for both
            sides; for one side 1 where what all directions share is removed, else 2.

    Example:
        >>> exact = DifferenceError(noise=0.0, bend=2.0, spread=0.0, reads=0.5)
        >>> exact.at(0.1)
        0.02
    """

    noise: float
    bend: float
    spread: float
    reads: float

    def rounding(self, eps: float) -> float:
        """The part that rounding makes, root mean square."""
        return math.sqrt(self.reads) * self.noise / eps

    def bending(self, eps: float) -> float:
        """The part that is no derivative: the loss is no straight line as far as eps."""
        return math.hypot(self.spread * eps, self.bend * eps**2)

    def at(self, eps: float) -> float:
        """The whole error of a slope, root mean square, in units of the loss per coordinate."""
        return math.hypot(self.rounding(eps), self.bending(eps))

    def best(self, shortest: float, longest: float) -> float:
        """The eps with the smallest error between two distances."""
        ratio = longest / shortest
        candidates = [shortest * ratio ** (k / _POINTS) for k in range(_POINTS + 1)]
        return min(candidates, key=self.at)


def error_of(
    lines: Sequence[Line], one_sided: bool = False, shared: bool = False
) -> DifferenceError:
    """Estimate the error from lines that were read at the same distances, three at least.

    Slopes at neighbouring distances differ by rounding, which falls as one over the distance, and
    by the cubic term, which grows as its square. Either part alone would explain the whole
    difference: so each pair of distances gives an upper bound of both, and the smallest one counts.

    Args:
        lines: along some directions.
        one_sided: whether the estimator takes one side.
        shared: whether it removes what the directions of a step have in common.
    """
    steps = lines[0].distances
    slopes = torch.stack([line.both for line in lines])
    change = slopes.diff(dim=1).square().mean(dim=0)
    near, far = steps[:-1], steps[1:]
    noise = (change / ((1 / near**2 + 1 / far**2) / 2)).min().sqrt()
    bend = (change / (far**2 - near**2) ** 2).min().sqrt()
    curving = torch.stack([line.rises for line in lines]) / steps**2
    if not one_sided:
        return DifferenceError(float(noise), float(bend), 0.0, 0.5)
    spread = _spread(curving, shared).min()
    return DifferenceError(float(noise), float(bend), float(spread), 1.0 if shared else 2.0)


def _spread(values: Tensor, shared: bool) -> Tensor:
    """Size of values over directions, ``[lines, S]``, without their mean if it does not matter."""
    if shared and len(values) > 1:
        return values.std(dim=0)
    return values.square().mean(dim=0).sqrt()
