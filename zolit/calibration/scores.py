"""Which entries of a matrix score highest."""

import torch
from torch import Tensor

_TOGETHER = 1 << 20
"""Scores that are compared at once."""


def largest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest scores, whatever device finds them: of equal ones those at lower positions.

    Args:
        scores: ``[N]`` float, not NaN.
        count: how many, from 1 to N.

    Returns:
        Positions, ``[count]`` int64, in falling order of score, those of equal scores rising; and
        the scores there.

    Example:
        >>> positions, scores = largest(torch.tensor([2.0, 5.0, 2.0, 9.0]), 3)
        >>> positions.tolist(), scores.tolist()
        ([3, 1, 0], [9.0, 5.0, 2.0])
    """
    # Part by part: topk takes sixteen bytes a score.
    parts = [part.topk(min(count, len(part))).values for part in scores.split(_TOGETHER)]
    least = torch.cat(parts).topk(count, sorted=False).values.min()
    above = (scores > least).nonzero().flatten()
    level = (scores == least).nonzero().flatten()[: count - len(above)]
    chosen = torch.cat((above, level)).sort().values
    order = scores[chosen].sort(descending=True, stable=True).indices
    positions = chosen[order]
    return positions, scores[positions]
