"""How a matrix is laid out for kernels: in words of 32 columns, without a view's base."""

import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.noise import WORD


def to_blocks(x: Tensor, groups: int = 1, width: int = WORD) -> Tensor:
    """A matrix in groups and words of its columns.

    Args:
        x: ``[R, K]``.
        groups: groups of columns in a row; they divide the columns.
        width: columns of a word.

    Returns:
        ``[R, groups, W, width]`` for groups of W words: a view. Where ``width`` does not divide the
        columns, a copy that is padded with zeros on the right.

    Example:
        >>> to_blocks(torch.zeros(4, 128), groups=2).shape
        torch.Size([4, 2, 2, 32])
    """
    short = -x.shape[1] % width
    if short:
        x = F.pad(x, (0, short))
    return x.view(x.shape[0], groups, -1, width)


def is_padded(x: Tensor, width: int = WORD) -> bool:
    """Whether `to_blocks` makes a padded copy of ``x`` rather than a view."""
    return x.shape[1] % width != 0


def without_base(view: Tensor) -> Tensor:
    """The memory of a view as a tensor that torch does not know to be a view.

    A compiled kernel depends on how a view lies in its base, and refuses to write to two views of
    one base.
    """
    if view.is_meta:  # it has no memory, and so no DLPack form
        return view
    with torch.inference_mode(False):
        return torch.from_dlpack(view)


def own_rows(table: Tensor) -> list[Tensor]:
    """The rows of a small table, each copied to a tensor of its own (see `without_base`)."""
    return [row.clone() for row in table]
