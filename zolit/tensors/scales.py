"""Directions on the scales of a weight, each of which moves by itself (QZO, arXiv 2505.13430)."""

import torch
from torch import Tensor

from zolit.formats.base import row_indices, to_blocks
from zolit.kernels.accumulate import accumulate
from zolit.kernels.arguments import Query
from zolit.kernels.dispatch import Preference


def scale_step(scale: Tensor, query: Query, preference: Preference) -> Tensor:
    """``coefficient * z`` of every scale, float32.

    Args:
        scale: ``[rows, groups]``; the groups are the columns that coordinates are counted by.
        query: the direction and the step along it.
        preference: kernel choice.

    Returns:
        ``[rows, groups]``.
    """
    rows, groups = scale.shape
    z = to_blocks(torch.zeros_like(scale))
    index = row_indices(slice(0, rows), scale.device)
    accumulate(z, index, query, preference=preference)
    return z.flatten(1)[:, :groups]


def relative_length(scale: Tensor, unit: Tensor) -> Tensor:
    """Length of a unit as a fraction of each scale, ``[rows, groups]``.

    Args:
        scale: ``[rows, groups]`` float32.
        unit: ``[2]`` float32: a fraction of the scale, and a length of the scale's own.
    """
    return unit[0] + unit[1] / scale.abs()
