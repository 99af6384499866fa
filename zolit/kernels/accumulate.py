"""The step of an update: a sum of directions, each times its coefficient."""

from torch import Tensor

from zolit.kernels.arguments import Query, Update
from zolit.kernels.dispatch import kernel
from zolit.noise import check_lanes, coordinates


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
    shape = like.shape[1], like.shape[2]
    z = coordinates(query.direction, query.control, rows, *shape, query.bits)
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
