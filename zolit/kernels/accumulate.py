"""Add a multiple of a direction to a buffer: the sum over queries, a chunk at a time."""

from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.noise import Direction, Lanes, check_lanes, coordinates


@kernel
def accumulate(
    total: Tensor,
    rows: Tensor,
    direction: Direction,
    control: Tensor,
    coefficient: Tensor,
    lanes: Lanes = "all",
) -> None:
    """``total += coefficient * z``.

    Args:
        total: ``[R, G, W, L]`` float32, L = 32 for all lanes, else 16.
        rows: ``[R]`` int32 row indices.
        direction: distribution.
        control: ``[8]`` int32 key words.
        coefficient: float32 scalar tensor.
        lanes: which lanes of each word (see `zolit.noise.coordinates`).
    """
    check_lanes(total, lanes)
    z = coordinates(direction, control, rows, total.shape[1], total.shape[2], lanes)
    total.add_(coefficient * z)
