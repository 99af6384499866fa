"""The coordinates of a direction as a read or an update takes them."""

import torch
from torch import Tensor

from zolit.kernels.arguments import Perturbation, Query
from zolit.noise import coordinates


def coordinates_along(along: Perturbation | Query, rows: Tensor, groups: int, words: int) -> Tensor:
    """``z``, or ``z / sqrt(curvature)`` where a curvature is known, for some rows of a weight.

    Args:
        along: the direction, with the bits and the curvature of these rows.
        rows: ``[R]`` int32 row indices.
        groups: groups of columns in a row.
        words: words of 32 columns in a group.

    Returns:
        ``[R, groups, words, 32]`` float32.
    """
    z = coordinates(along.direction, along.control, rows, groups, words, along.bits)
    if along.curvature is None:
        return z
    return z * torch.rsqrt(along.curvature.view(z.shape))
