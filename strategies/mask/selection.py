"""Find the largest of many scores, exactly and without sorting, by histograms over their bits.

The scores of a whole model never lie in memory: they are passed over part by part, and computed
again for each pass. The first pass counts the upper 16 bits of each score, which tells the upper
bits of the score at a rank. The second pass counts the lower 16 bits of those scores that share
these upper bits, which tells the score itself.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Parts = Callable[[], Iterable[Tensor]]
"""Returns all scores from the first on, float32, in parts of any shape."""

_BINS = 1 << 16
"""Bins of a histogram over 16 bits."""


class Place(NamedTuple):
    """The score at a rank, and how many scores are smaller or equal.

    Attributes:
        key: the score as an integer, see `ordered`.
        below: how many scores are smaller.
        equal: how many scores equal it, itself included.

    Example:
        >>> Place(key=0x40000000, below=3, equal=1).score
        2.0
    """

    key: int
    below: int
    equal: int

    @property
    def score(self) -> float:
        """The score as a number."""
        bits = self.key if self.key >= 0 else self.key ^ 0x7FFFFFFF
        return float(torch.tensor(bits, dtype=torch.int32).view(torch.float32))


def ordered(scores: Tensor) -> Tensor:
    """Integers, int32, in the same order as float32 scores; 0 and -0 become equal.

    Example:
        >>> ordered(torch.tensor([-2.0, -1.0, -0.0, 0.0, 3.0])).diff().sign().tolist()
        [1, 1, 0, 1]
    """
    bits = (scores + 0.0).view(torch.int32)
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


def places(parts: Parts, ranks: Sequence[int]) -> list[Place]:
    """The scores at some ranks.

    Args:
        parts: all scores, of which none is NaN.
        ranks: counted from 0, the rank of the smallest score.

    Example:
        >>> places(lambda: [torch.tensor([3.0, 1.0]), torch.tensor([3.0, 2.0])], [2])[0][1:]
        (2, 2)
    """
    upper = torch.zeros(_BINS, dtype=torch.int64)
    for part in parts():
        upper += _counts((ordered(part) >> 16) + _BINS // 2)
    ends = upper.cumsum(0)
    bins = torch.searchsorted(ends, torch.tensor(ranks), right=True).tolist()
    lower = {one: torch.zeros(_BINS, dtype=torch.int64) for one in bins}
    for part in parts():
        keys = ordered(part)
        for one, counts in lower.items():
            counts += _counts(keys[(keys >> 16) == one - _BINS // 2] & (_BINS - 1))
    found = []
    for rank, one in zip(ranks, bins, strict=True):
        until = lower[one].cumsum(0) + (ends[one] - upper[one])
        last = int(torch.searchsorted(until, rank, right=True))
        equal = int(lower[one][last])
        key = ((one - _BINS // 2) << 16) | last
        found.append(Place(key, int(until[last]) - equal, equal))
    return found


def quantiles(parts: Parts, total: int, shares: Sequence[float]) -> list[float]:
    """The quantiles of all scores, interpolated linearly between two scores as numpy does.

    Args:
        parts: all scores, of which none is NaN.
        total: how many there are.
        shares: the fraction of scores below each quantile, in [0, 1].

    Example:
        >>> quantiles(lambda: [torch.tensor([4.0, 1.0, 2.0])], 3, [0.25, 0.5])
        [1.5, 2.0]
    """
    at = [share * (total - 1) for share in shares]
    ranks = [rank for place in at for rank in (math.floor(place), math.ceil(place))]
    found = [place.score for place in places(parts, ranks)]
    return [
        low + (place - math.floor(place)) * (high - low)
        for place, low, high in zip(at, found[::2], found[1::2], strict=True)
    ]


def _counts(values: Tensor) -> Tensor:
    """How often each integer in [0, `_BINS`) comes, on the host."""
    return torch.bincount(values.flatten(), minlength=_BINS).cpu()


class Largest:
    """Picks the ``count`` largest scores, part by part; of equal scores the first.

    Args:
        parts: all scores, of which none is NaN.
        total: how many there are.
        count: how many to pick, from 1 to ``total``.

    Attributes:
        ties: how many scores equal the smallest one that is picked, but are not picked.
        all_equal: whether all scores are equal.

    Example:
        >>> scores = torch.tensor([1.0, 2.0, 2.0, 0.5])
        >>> Largest(lambda: [scores], 4, 2).of(scores)
        tensor([False,  True,  True, False])
    """

    def __init__(self, parts: Parts, total: int, count: int) -> None:
        [place] = places(parts, [total - count])
        self._key = place.key
        self._left = place.below + place.equal - (total - count)
        self.ties = place.equal - self._left
        self.all_equal = place.equal == total

    def of(self, part: Tensor) -> Tensor:
        """Which scores of the next part are picked, bool. Call it for the parts in their order."""
        keys = ordered(part)
        equal = keys == self._key
        number = equal.flatten().cumsum(0).view(keys.shape)
        picked = (keys > self._key) | (equal & (number <= self._left))
        self._left = max(0, self._left - int(equal.sum()))
        return picked


def largest_of_rows(scores: Tensor, count: int) -> Tensor:
    """Marks the ``count`` largest scores of each row, ``[R, n]`` bool; of equal scores the first.

    Args:
        scores: ``[R, n]`` float32, of which none is NaN.
        count: how many to mark in each row.

    Example:
        >>> largest_of_rows(torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, 0.0]]), 1).int()
        tensor([[0, 1, 0],
                [1, 0, 0]], dtype=torch.int32)
    """
    keys = ordered(scores)
    smallest = keys.kthvalue(keys.shape[1] - count + 1, dim=1, keepdim=True).values
    above, equal = keys > smallest, keys == smallest
    left = count - above.sum(1, keepdim=True)
    return above | (equal & (equal.cumsum(1) <= left))
