"""Finds the highest scores of a matrix."""

import torch
from torch import Tensor

_TOGETHER = 1 << 20
"""Number of scores that are compared at once."""


def largest(scores: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The highest scores and their positions. Of equal scores those at lower positions are taken.

    The result is the same on every device.

    Args:
        scores: ``[N]`` float, not NaN.
        count: how many, from 1 to N.

    Returns:
        The positions, ``[count]`` int64, in falling order of score, and for equal scores in rising
        order of position; and the scores there.

    Example:
        >>> positions, scores = largest(torch.tensor([2.0, 5.0, 2.0, 9.0]), 3)
        >>> positions.tolist(), scores.tolist()
        ([3, 1, 0], [9.0, 5.0, 2.0])
    """
    # Part by part, because topk needs sixteen bytes of memory for each score.
    parts = [part.topk(min(count, len(part))).values for part in scores.split(_TOGETHER)]
    least = torch.cat(parts).topk(count, sorted=False).values.min()
    above = (scores > least).nonzero().flatten()
    level = (scores == least).nonzero().flatten()[: count - len(above)]
    chosen = torch.cat((above, level)).sort().values
    order = scores[chosen].sort(descending=True, stable=True).indices
    positions = chosen[order]
    return positions, scores[positions]
