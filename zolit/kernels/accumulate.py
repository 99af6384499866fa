"""Add a multiple of a direction to a buffer: the sum over queries, a chunk at a time."""

from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.noise import Direction, check_lanes, coordinates


@kernel
def accumulate(
    total: Tensor,
    rows: Tensor,
    direction: Direction,
    control: Tensor,
    coefficient: Tensor,
) -> None:
    """``total += coefficient * z``.

    Args:
        total: ``[R, G, W, 32]`` float32.
        rows: ``[R]`` int32 row indices.
        direction: distribution.
        control: ``[8]`` int32 key words.
        coefficient: float32 scalar tensor.
    """
    check_lanes(total)
    z = coordinates(direction, control, rows, total.shape[1], total.shape[2])
    total.add_(coefficient * z)
