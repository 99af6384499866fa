"""Add a multiple of a direction to a buffer: the sum over queries, a chunk at a time."""

from torch import Tensor

from zolit.kernels.arguments import Query, Update
from zolit.kernels.dispatch import kernel
from zolit.noise import check_lanes, coordinates


def whole_step(update: Update, like: Tensor, rows: Tensor) -> Tensor:
    """``step + coefficient * z``, where either may be missing, in the shape of ``like``.

    An update adds its last query here, inside its kernel: with one query no sum is ever stored.

    Raises:
        ValueError: if both are missing.
    """
    if update.query is None:
        if update.step is None:
            raise ValueError("an update needs a step or a query")
        return update.step
    move = _along(update.query, like, rows)
    return move if update.step is None else update.step + move


def _along(query: Query, like: Tensor, rows: Tensor) -> Tensor:
    """``coefficient * z`` in the shape of ``like``."""
    check_lanes(like)
    shape = like.shape[1], like.shape[2]
    z = coordinates(query.direction, query.control, rows, *shape, query.bits)
    return query.coefficient * z.view(like.shape)


@kernel
def accumulate(total: Tensor, rows: Tensor, query: Query) -> None:
    """``total += coefficient * z``.

    Args:
        total: ``[R, G, W, 32]`` float32.
        rows: ``[R]`` int32 row indices.
        query: the direction and the step along it; its bits are those of the rows.
    """
    total.copy_(total + _along(query, total, rows))
