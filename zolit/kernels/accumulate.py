"""Add a multiple of a direction to a buffer: the sum over queries, a chunk at a time."""

from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.noise import Direction, coordinates


@kernel
def accumulate(
    total: Tensor,
    rows: Tensor,
    direction: Direction,
    control: Tensor,
    coefficient: Tensor,
    first: int = 0,
    stride: int = 1,
) -> None:
    """``total += coefficient * z``.

    Args:
        total: ``[R, G, W, 32 // stride]`` float32.
        rows: ``[R]`` int32 row indices.
        direction: distribution.
        control: ``[8]`` int32 key words.
        coefficient: float32 scalar tensor.
        first: first lane (see `zolit.noise.coordinates`).
        stride: lane stride.
    """
    z = coordinates(direction, control, rows, total.shape[1], total.shape[2], first, stride)
    total.add_(coefficient * z)
