"""The step of an update: a sum of directions, each times its coefficient."""

from torch import Tensor

from zolit.kernels.along import coordinates_along
from zolit.kernels.arguments import Query, Update
from zolit.kernels.dispatch import kernel
from zolit.noise import check_lanes


def whole_step(update: Update, like: Tensor, rows: Tensor) -> Tensor:
    """``step + coefficient * z`` of an update, where either term may be missing.

    The kernel of an update calls this for the last query of a step. With one query, therefore, no
    sum is ever stored.

    Args:
        update: its step and its query, in words of 32 columns.
        like: a tensor whose shape the result has, ``[R, G, W, 32]`` or ``[R, G, W, 2, 16]``.
        rows: ``[R]`` int32 row indices.

    Raises:
        ValueError: if both terms are missing.
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
    z = coordinates_along(query, rows, like.shape[1], like.shape[2])
    return query.coefficient * z.view(like.shape)


@kernel
def accumulate(total: Tensor, rows: Tensor, query: Query) -> None:
    """``total += coefficient * z``.

    Args:
        total: ``[R, G, W, 32]`` float32.
        rows: ``[R]`` int32 row indices.
        query: the direction and the step along it; its bits are those of these rows.
    """
    total.copy_(total + _along(query, total, rows))


@kernel
def accumulate_squares(total: Tensor, rows: Tensor, query: Query, shift: Tensor) -> None:
    """``total += coefficient * (z**2 - shift)``.

    Args:
        total: ``[R, G, W, 32]`` float32.
        rows: ``[R]`` int32 row indices.
        query: the direction and its coefficient; its bits are those of these rows.
        shift: float32 scalar tensor.
    """
    check_lanes(total)
    z = coordinates_along(query, rows, total.shape[1], total.shape[2])
    total.copy_(total + query.coefficient * (z * z - shift))
