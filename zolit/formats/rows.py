"""Which rows of a stored weight an operation is on."""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

Rows = slice | Tensor
"""Rows of a weight: a contiguous slice, or ``[R]`` int64 indices (an embedding lookup)."""


def chunks(rows: int, most: int) -> Iterator[slice]:
    """The rows of a weight, cut into slices of at most ``most`` rows.

    Example:
        >>> list(chunks(5, 2))
        [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    for start in range(0, rows, most):
        yield slice(start, min(start + most, rows))


def row_indices(rows: Rows, device: torch.device) -> Tensor:
    """The numbers of some rows, ``[R]`` int32, as kernels take them. Not to be written to.

    Args:
        rows: a slice, or ``[R]`` int64 indices.
        device: where the numbers of a slice lie; indices stay where they are.
    """
    if isinstance(rows, slice):
        return _slice_indices(rows.start, rows.stop, device)
    return rows.to(torch.int32)


@lru_cache(maxsize=1024)
def _slice_indices(start: int, stop: int, device: torch.device) -> Tensor:
    # Made once for all weights of a shape. An inference tensor would compile the kernels anew.
    with torch.inference_mode(False):
        return torch.arange(start, stop, dtype=torch.int32, device=device)
