"""Move packed int4 codes, rounded stochastically and kept in range."""

import torch
from torch import Tensor

from zolit.kernels.apply_int8 import lane_counters, round_codes
from zolit.kernels.dispatch import kernel
from zolit.kernels.read_int4 import unpack
from zolit.noise import Lanes, uniform


@kernel
def apply_int4(
    packed: Tensor,
    scale: Tensor,
    steps: list[Tensor],
    unit: Tensor,
    rows: Tensor,
    rounding: Tensor,
    residuals: list[Tensor] | None = None,
    decay: Tensor | None = None,
) -> None:
    """`zolit.kernels.apply_int8.apply_int8` for two codes a byte.

    Args:
        packed: ``[R, G, W, 16]`` int8 bytes.
        scale: ``[R, G, 1, 1]`` float32.
        steps: even and odd plane, each ``[R, G, W, 16]`` float32, in units of the coordinate.
        unit: ``[2]`` float32, length of the unit in codes and in weights.
        rows: ``[R]`` int32 row indices.
        rounding: ``[2]`` int32 key words of this update's rounding.
        residuals: even and odd plane of the error feedback, or None.
        decay: float32 scalar tensor, factor of the residual.
    """
    nibbles = []
    planes: tuple[Lanes, Lanes] = ("even", "odd")
    for plane, (lanes, code) in enumerate(zip(planes, unpack(packed), strict=True)):
        move = steps[plane] * (unit[0] + unit[1] / scale)
        if residuals is not None and decay is not None:
            move = move + decay * residuals[plane].float()
            draw = torch.full_like(move, 0.5)
        else:
            draw = uniform(lane_counters(rows, packed, lanes), rounding[0], rounding[1])
        moved, rest = round_codes(code, move, draw, -8, 7)
        nibbles.append(moved)
        if residuals is not None:
            residuals[plane].copy_(rest.to(residuals[plane].dtype))
    packed.copy_(((nibbles[1] << 4) | (nibbles[0] & 0xF)).to(torch.int8))
