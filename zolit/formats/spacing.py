"""How far apart the numbers lie that a format can store."""

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight

_SAMPLED_ROWS = 16
"""Rows in the middle of a weight by which the spacing of floating-point numbers is estimated."""


def spacing(store: StoredWeight) -> Tensor:
    """The distance of neighbouring numbers of a weight's grid, in weights.

    Args:
        store: the weight.

    Returns:
        Float32, broadcast against the weight's scales: of integer codes the scale of each group; of
        floating-point numbers the mean over some rows. It is 0 for float32, which no move of a run
        is rounded away from, and for formats whose codes do not move.
    """
    floats = store.floats()
    if floats is not None:
        rows = floats[_middle(len(floats))]
        return torch.zeros(()) if rows.dtype == torch.float32 else ulp(rows).mean()
    found = store.affine()
    if found is None or not store.codes_move:
        return torch.zeros(())
    if not found.codes.is_floating_point():
        return found.scale
    return found.scale * ulp(found.codes[_middle(store.rows)]).mean()


def ulp(values: Tensor) -> Tensor:
    """The distance from each number to the next larger one of its dtype in size.

    Args:
        values: of a floating dtype.

    Returns:
        Float32, in the shape of ``values``.

    Example:
        >>> ulp(torch.tensor([1.0, 3.0, 0.0], dtype=torch.bfloat16))
        tensor([7.8125e-03, 1.5625e-02, 9.1835e-41])
    """
    facts = torch.finfo(values.dtype)
    size = values.float().abs().clamp(min=facts.smallest_normal)
    return torch.exp2(torch.floor(torch.log2(size))) * facts.eps


def _middle(rows: int) -> slice:
    start = max(0, (rows - _SAMPLED_ROWS) // 2)
    return slice(start, start + _SAMPLED_ROWS)
