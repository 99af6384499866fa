"""Add a multiple of a direction to a buffer: the sum over queries, a chunk at a time."""

from dataclasses import dataclass

from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.noise import Direction, check_lanes, coordinates


@dataclass(frozen=True)
class Query:
    """One direction of an update and the step along it.

    Attributes:
        direction: distribution of its coordinates.
        control: ``[8]`` int32 key words of the weight (`zolit.noise.control_words`).
        coefficient: float32 scalar tensor, in units of the coordinate.
    """

    direction: Direction
    control: Tensor
    coefficient: Tensor


def query_arguments(query: Query | None) -> tuple[()] | tuple[Direction, Tensor, Tensor]:
    """The last arguments of an update kernel: direction, control and coefficient, or nothing."""
    return () if query is None else (query.direction, query.control, query.coefficient)


def whole_step(
    step: Tensor | None,
    like: Tensor,
    rows: Tensor,
    direction: Direction | None,
    control: Tensor | None,
    coefficient: Tensor | None,
) -> Tensor:
    """``step + coefficient * z``, where either may be missing, in the shape of ``like``.

    An update adds its last query here, inside its kernel: with one query no sum is ever stored.

    Raises:
        ValueError: if both are missing.
    """
    if direction is None or control is None or coefficient is None:
        if step is None:
            raise ValueError("an update needs a step or a query")
        return step
    check_lanes(like)
    z = coordinates(direction, control, rows, like.shape[1], like.shape[2]).view(like.shape)
    return coefficient * z if step is None else step + coefficient * z


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
        control: ``[8]`` int32 key words, or ``[R, 8]``: of each row.
        coefficient: float32 scalar tensor, or ``[R, 1, 1, 1]``.
    """
    total.copy_(whole_step(total, total, rows, direction, control, coefficient))
