"""Move codes that are stored in planes of bits, rounded stochastically and kept in range."""

from torch import Tensor

from zolit.kernels.accumulate import whole_step
from zolit.kernels.apply_int8 import rounded
from zolit.kernels.dispatch import kernel
from zolit.kernels.read_planes import lanes_like, pack_planes, unpack_planes
from zolit.noise import Direction


@kernel
def apply_planes(
    planes: list[Tensor],
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
    """`zolit.kernels.apply_int8.apply_int8` for codes in planes of bits.

    Args:
        planes: ``n`` times ``[R, G, W, 1]`` int32, codes in [0, 2**n - 1].
        scale: ``[R, G, 1, 1]`` float32; or ``[R, W, 1, 2, 1]``, see `read_planes`.
        step: ``[R, G, W, 32]`` or ``[R, W, 1, 2, 16]`` float32, in units of the coordinate, or
            None. With one row it is every row's.
        unit: ``[2]`` float32, length of the unit in codes and in weights. ``[2, R, 1, ...]``:
            of each row.
        rows: ``[R]`` int32 row indices.
        rounding: ``[2]`` int32 key words of this update's rounding.
        residual: error feedback in the shape of the step, or None.
        decay: float32 scalar tensor, factor of the residual.
        direction: with ``control`` and ``coefficient`` a query that adds to the step (`Query`).
        control: ``[8]`` int32.
        coefficient: float32 scalar tensor.
    """
    codes = lanes_like(unpack_planes(planes), scale)
    step = whole_step(step, codes, rows, direction, control, coefficient)
    move = step * (unit[0] + unit[1] / scale)
    moved, rest = rounded(codes, move, rows, rounding, residual, decay, 0, 2 ** len(planes) - 1)
    words = moved.flatten(-2) if scale.dim() == 5 else moved
    for plane, new in zip(planes, pack_planes(words, len(planes)), strict=True):
        plane.copy_(new)
    if residual is not None:
        residual.copy_(rest.to(residual.dtype))
