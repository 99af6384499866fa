"""Entries that a quantizer leaves out of its fit, because they are kept as floats beside it."""

import torch
from torch import Tensor

from zolit.formats.base import chunks

_CHUNK_ELEMENTS = 1 << 18
"""Weights filled at once: their float32 copies are held beside the result."""


def filled(weight: Tensor, excluded: Tensor | None, group_size: int | None) -> Tensor:
    """A weight whose excluded entries are the mean of the others that they share a scale with.

    No scale, zero point or range of a group is then another than that of its other entries.

    Args:
        weight: ``[rows, columns]`` float; not changed.
        excluded: ``[rows, columns]`` bool; None for none.
        group_size: neighbouring columns that share a scale; None for all of a row.

    Returns:
        The weight itself where nothing is excluded. A group of which nothing is left is 0.

    Example:
        >>> weight = torch.tensor([[1.0, 9.0, 3.0]])
        >>> filled(weight, weight > 5, None)
        tensor([[1., 2., 3.]])
    """
    if excluded is None:
        return weight
    rows, columns = weight.shape
    found = torch.empty_like(weight)
    for part in chunks(rows, max(1, _CHUNK_ELEMENTS // columns)):
        groups = weight[part].float().view(part.stop - part.start, -1, group_size or columns)
        left_out = excluded[part].view(groups.shape)
        kept = (~left_out).sum(dim=2, keepdim=True).clamp(min=1)
        mean = groups.masked_fill(left_out, 0.0).sum(dim=2, keepdim=True) / kept
        found[part] = torch.where(left_out, mean, groups).view(-1, columns)
    return found
