"""Leave entries that are kept as floats out of the fit of scales, zero points and codes."""

import torch
from torch import Tensor

from zolit.formats.rows import chunks

_CHUNK_ELEMENTS = 1 << 18
"""Elements that are handled at once. Their float32 copies are held beside the result."""


def filled(weight: Tensor, excluded: Tensor | None, group_size: int | None) -> Tensor:
    """A weight in which the mean of its group takes the place of each excluded entry.

    The mean is that of the other entries of the group. So the range of a group, and with it its
    scale and zero point, are those of the other entries.

    Args:
        weight: ``[rows, columns]`` float; not changed.
        excluded: ``[rows, columns]`` bool; None where nothing is excluded.
        group_size: neighbouring columns that share a scale; None for all columns of a row.

    Returns:
        A filled copy, or the weight itself where nothing is excluded. A group of which every entry
        is excluded becomes 0.

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
