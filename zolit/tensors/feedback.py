"""Error feedback: the rounding error of a step is carried to the next one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight, to_blocks
from zolit.tensors.workspace import update_chunks


@dataclass(frozen=True)
class Feedback:
    """The rounding errors of a weight's moves so far.

    Attributes:
        residual: ``[rows, padded_columns]`` float16 or float32, updated in place.
        decay: factor of the residual (QES: 0.9; 1 loses nothing).
    """

    residual: Tensor
    decay: float


def quantization_error(store: StoredWeight, weight: Tensor) -> Tensor:
    """The rounding error of quantization: ``(weight - decoded) / scale``.

    Args:
        store: the weight, just quantized, in a format that `keeps_error`.
        weight: ``[rows, columns]`` float from which it was made.

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
