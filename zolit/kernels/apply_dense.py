"""Move floating-point weights; bfloat16 is rounded stochastically."""

import torch
from torch import Tensor

from zolit.kernels.accumulate import whole_step
from zolit.kernels.apply_int8 import lane_counters
from zolit.kernels.dispatch import kernel
from zolit.noise import Direction, hash_words


@kernel
def apply_dense(
    weight: Tensor,
    step: Tensor | None,
    unit: Tensor,
    rows: Tensor,
    rounding: Tensor,
    residual: Tensor | None = None,
    decay: Tensor | None = None,
    direction: Direction | None = None,
    control: Tensor | None = None,
    coefficient: Tensor | None = None,
) -> None:
    """``weight += step * unit[1] + decay * residual``, in place.

    A step of a zeroth-order method is often far smaller than the spacing of bfloat16 numbers;
    rounded to nearest it would be lost. A random 16-bit integer added below bfloat16's last bit
    makes the rounded weight right on average. With a residual rounding is to nearest: nothing is
    lost then.

    Args:
        weight: ``[R, 1, W, 32]`` float32 or bfloat16.
        step: ``[R, 1, W, 32]`` float32, in units of the coordinate, or None. With one
            row it is every row's.
        unit: ``[2]`` float32; ``unit[1]`` is the length of the unit in weights. ``[2, R, 1, ...]``:
            of each row.
        rows: ``[R]`` int32 row indices.
        rounding: ``[2]`` int32 key words of this update's rounding.
        residual: ``[R, 1, W, 32]`` floats of the error feedback, changed in place, or None.
        decay: float32 scalar tensor, factor of the residual.
        direction: with ``control`` and ``coefficient`` a query that adds to the step (`Query`).
        control: ``[8]`` int32.
        coefficient: float32 scalar tensor.
    """
    step = whole_step(step, weight, rows, direction, control, coefficient)
    target = weight.float() + step * unit[1]
    if residual is not None and decay is not None:
        target = target + decay * residual.float()
    moved = target
    if weight.dtype == torch.bfloat16:
        if residual is None:
            draw = hash_words(lane_counters(rows, weight), rounding[0], rounding[1]) & 0xFFFF
        else:
            draw = torch.full_like(target, 1 << 15, dtype=torch.int32)
        moved = ((target.view(torch.int32) + draw) & -0x10000).view(torch.float32)
    if residual is not None:
        residual.copy_((target - moved).to(residual.dtype))
    weight.copy_(moved.to(weight.dtype))
