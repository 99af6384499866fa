"""Move packed int4 codes, rounded stochastically and kept in range."""

from torch import Tensor

from zolit.kernels.accumulate import whole_step
from zolit.kernels.apply_int8 import rounded
from zolit.kernels.dispatch import kernel
from zolit.kernels.read_int4 import pack, unpack
from zolit.noise import Direction


@kernel
def apply_int4(
    packed: Tensor,
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
    """`zolit.kernels.apply_int8.apply_int8` for two codes a byte.

    Args:
        packed: ``[R, G, W, 16]`` int8 bytes.
        scale: ``[R, G, 1, 1]`` float32.
        step: ``[R, G, W, 2, 16]`` float32, in units of the coordinate, or None. With one
            row it is every row's.
        unit: ``[2]`` float32, length of the unit in codes and in weights. ``[2, R, 1, ...]``:
            of each row.
        rows: ``[R]`` int32 row indices.
        rounding: ``[2]`` int32 key words of this update's rounding.
        residual: ``[R, G, W, 2, 16]`` error feedback, or None.
        decay: float32 scalar tensor, factor of the residual.
        direction: with ``control`` and ``coefficient`` a query that adds to the step (`Query`).
        control: ``[8]`` int32.
        coefficient: float32 scalar tensor.
    """
    codes = unpack(packed)
    step = whole_step(step, codes, rows, direction, control, coefficient)
    move = step * (unit[0] + unit[1] / scale).unsqueeze(-1)
    moved, rest = rounded(codes, move, rows, rounding, residual, decay, -8, 7)
    packed.copy_(pack(moved))
    if residual is not None:
        residual.copy_(rest.to(residual.dtype))
