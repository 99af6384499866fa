"""Error feedback: the rounding error of a step is carried over to the next one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.layout import to_blocks
from zolit.tensors.workspace import update_chunks


@dataclass(frozen=True)
class Feedback:
    """The rounding errors that a weight's moves have left so far.

    Attributes:
        residual: ``[rows, padded_columns]`` float16 or float32, in code units of quantized weights
            and in weights of floats; updated in place.
        decay: factor of the residual at each step. 1 loses nothing; QES takes 0.9.

    Example:
        >>> Feedback(torch.zeros(4, 64, dtype=torch.float16), decay=1.0).residual.shape
        torch.Size([4, 64])
    """

    residual: Tensor
    decay: float


def quantization_error(store: StoredWeight, weight: Tensor) -> Tensor:
    """The rounding error of quantization: ``(weight - decoded) / scale``.

    Args:
        store: the weight, just quantized, in a format with `StoredWeight.keeps_error`.
        weight: ``[rows, columns]`` float, from which it was made.

    Returns:
        ``[rows, padded_columns]`` float16, in code units.
    """
    scale = store.scales()["scale"]
    groups = scale.shape[1]
    error = torch.empty(store.rows, store.padded_columns, dtype=torch.float16, device=store.device)
    for rows in update_chunks(store):
        decoded = torch.empty(rows.stop - rows.start, store.padded_columns, device=store.device)
        store.read(rows, [decoded], None, "reference")
        rest = to_blocks(weight[rows].float()).flatten(1) - decoded
        to_blocks(rest, groups).div_(scale[rows].view(-1, groups, 1, 1))
        error[rows] = rest
    return error
