"""Move float8 (e4m3) weights, rounded stochastically onto their grid."""

import torch
from torch import Tensor

from zolit.kernels.accumulate import whole_step
from zolit.kernels.apply_int8 import lane_counters
from zolit.kernels.dispatch import kernel
from zolit.kernels.read_float8 import decode_e4m3
from zolit.noise import Direction, hash_words

_LARGEST = 0x7E
"""Code of 448, the largest finite e4m3 number."""


def encode_e4m3(value: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Round float32 values stochastically onto the e4m3 grid.

    A positive e4m3 code read as an integer is a piecewise linear function of its value, and
    float32 carries 20 further bits of it: adding a 20-bit random integer before they are cut off
    rounds up with probability equal to the fraction. Below 2**-6 the grid is uniform.

    Args:
        value: float32.
        draw: int32 of the same shape, uniform in [0, 2**20).

    Returns:
        int32 codes (sign in bit 7) and a bool tensor: whether the value fits, ``|v| <= 448``.
    """
    size = value.abs()
    normal = size.view(torch.int32) - (120 << 23)
    fixed = (size.clamp(max=2.0**-6) * 2.0**29).to(torch.int32)
    magnitude = (torch.where(size < 2.0**-6, fixed, normal) + draw) >> 20
    code = torch.where(value < 0, magnitude | 0x80, magnitude)
    return code, (size < 512.0) & (magnitude <= _LARGEST)


@kernel
def apply_float8(
    codes: Tensor,
    scale: Tensor,
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
    """``codes = round(value(codes) + step * (unit[0] + unit[1] / scale) + decay * residual)``.

    Rounding is stochastic without a residual and to nearest with one (see `apply_int8`).

    A weight that would leave ``[-448, 448]`` (times its scale) stays.

    Args:
        codes: ``[R, G, W, 32]`` int8 view of e4m3 codes, changed in place.
        scale: ``[R, G, 1, 1]`` float32.
        step: ``[R, G, W, 32]`` float32, in units of the coordinate, or None. With one
            row it is every row's.
        unit: ``[2]`` float32, length of the unit in scales and in weights. ``[2, R, 1, ...]``:
            of each row.
        rows: ``[R]`` int32 row indices.
        rounding: ``[2]`` int32 key words of this update's rounding.
        residual: ``[R, G, W, 32]`` floats of the error feedback, changed in place, or None.
        decay: float32 scalar tensor, factor of the residual.
        direction: with ``control`` and ``coefficient`` a query that adds to the step (`Query`).
        control: ``[8]`` int32.
        coefficient: float32 scalar tensor.
    """
    step = whole_step(step, codes, rows, direction, control, coefficient)
    old = decode_e4m3(codes)
    move = step * (unit[0] + unit[1] / scale)
    if residual is not None and decay is not None:
        move = move + decay * residual.float()
        draw = torch.full_like(codes, 1 << 19, dtype=torch.int32)
    else:
        draw = hash_words(lane_counters(rows, codes), rounding[0], rounding[1]) & 0xFFFFF
    code, fits = encode_e4m3(old + move, draw)
    moved = torch.where(fits, code, codes.to(torch.int32)).to(torch.int8)
    if residual is not None:
        residual.copy_((old + move - decode_e4m3(moved)).to(residual.dtype))
    codes.copy_(moved)
