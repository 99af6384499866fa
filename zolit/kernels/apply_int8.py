"""Move int8 codes, rounded stochastically and kept in range."""

import torch
from torch import Tensor

from zolit.kernels.accumulate import whole_step
from zolit.kernels.dispatch import kernel
from zolit.noise import Direction, check_lanes, lane_indices, uniform, word_counters


def round_codes(
    codes: Tensor, move: Tensor, draw: Tensor, low: int, high: int
) -> tuple[Tensor, Tensor]:
    """Integer codes after a real-valued move, and the part of the move that was not made.

    ``floor(move + draw)`` rounds stochastically: its expectation is the move. A code that the
    jump would take out of ``[low, high]`` stays (range gating).

    Args:
        codes: int32 codes.
        move: float32 of the same shape, in code units.
        draw: uniform in [0, 1), same shape.
        low: smallest code.
        high: largest code.

    Returns:
        int32 codes and float32 remainder ``move - jump``.
    """
    jump = torch.floor(move + draw).clamp(-512, 512).to(torch.int32)
    moved = codes + jump
    inside = (moved >= low) & (moved <= high)
    return torch.where(inside, moved, codes), move - torch.where(inside, jump, 0).float()


def rounded(
    codes: Tensor,
    move: Tensor,
    rows: Tensor,
    rounding: Tensor,
    residual: Tensor | None,
    decay: Tensor | None,
    low: int,
    high: int,
) -> tuple[Tensor, Tensor]:
    """Codes moved by ``move``, and what was not moved: stochastically rounded, or with a residual
    to nearest. The residual is added before and is the caller's to replace.

    Args:
        codes: int32 codes in the kernels' shape.
        move: float32 of the same shape, in code units.
        rows: ``[R]`` int32 row indices.
        rounding: ``[2]`` int32 key words of this update's stochastic rounding.
        residual: floats of the error feedback, None without.
        decay: float32 scalar tensor, factor of the residual.
        low: smallest code.
        high: largest code.

    Returns:
        See `round_codes`.
    """
    if residual is not None and decay is not None:
        move = move + decay * residual.float()
        draw = torch.full_like(move, 0.5)
    else:
        draw = uniform(lane_counters(rows, codes), rounding[0], rounding[1])
    return round_codes(codes, move, draw, low, high)


def lane_counters(rows: Tensor, like: Tensor) -> Tensor:
    """Counters of the coordinates of a ``[R, G, W, 32]`` or ``[R, G, W, 2, 16]`` tensor, int32."""
    check_lanes(like)
    word = word_counters(rows, like.shape[1], like.shape[2]).unsqueeze(-1)
    return (word * 32 + lane_indices(rows.device)).view(like.shape)


@kernel
def apply_int8(
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
    """``codes += round(step * (unit[0] + unit[1] / scale) + decay * residual)``, in place.

    Rounding is stochastic without a residual. With one it is to nearest, as in QES: what a step
    leaves undone is not lost, and rounding at random would only add noise.

    Args:
        codes: ``[R, G, W, 32]`` int8.
        scale: ``[R, G, 1, 1]`` float32.
        step: ``[R, G, W, 32]`` float32, in units of the coordinate, or None. With one
            row it is every row's.
        unit: ``[2]`` float32, length of the unit in codes and in weights. ``[2, R, 1, ...]``:
            of each row.
        rows: ``[R]`` int32 row indices.
        rounding: ``[2]`` int32 key words of this update's stochastic rounding.
        residual: ``[R, G, W, 32]`` floats carried between steps (error feedback, QES
            arXiv 2602.03120), updated in place; None without.
        decay: float32 scalar tensor, factor of the residual.
        direction: with ``control`` and ``coefficient`` a query that adds to the step (`Query`).
        control: ``[8]`` int32.
        coefficient: float32 scalar tensor.
    """
    step = whole_step(step, codes, rows, direction, control, coefficient)
    move = step * (unit[0] + unit[1] / scale)
    moved, rest = rounded(codes.to(torch.int32), move, rows, rounding, residual, decay, -128, 127)
    codes.copy_(moved.to(torch.int8))
    if residual is not None:
        residual.copy_(rest.to(residual.dtype))
