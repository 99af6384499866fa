"""Moves of stored codes, rounded onto their grid; what rounding leaves undone may be carried."""

import torch
from torch import Tensor

from zolit.kernels.accumulate import whole_step
from zolit.kernels.arguments import Stored, Update
from zolit.noise import check_lanes, lane_indices, uniform, word_counters


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


def move_codes(codes: Tensor, stored: Stored, update: Update, low: int, high: int) -> Tensor:
    """``codes + round(step * (unit[0] + unit[1] / scale) + decay * residual)``.

    Rounding is stochastic without a residual. With one it is to nearest, as in QES: what a step
    leaves undone is not lost, and rounding at random would only add noise.

    Args:
        codes: int32, in words of 32 columns.
        stored: the rows that they belong to.
        update: the step, in words; its residual is changed in place.
        low: smallest code.
        high: largest code.

    Returns:
        int32 codes in ``[low, high]``.
    """
    move = whole_step(update, codes, stored.rows) * length_in_codes(update, stored)
    if update.residual is not None and update.decay is not None:
        move = move + update.decay * update.residual.float()
        draw = torch.full_like(move, 0.5)
    else:
        draw = uniform(lane_counters(stored.rows, codes), update.rounding[0], update.rounding[1])
    moved, rest = round_codes(codes, move, draw, low, high)
    if update.residual is not None:
        update.residual.copy_(rest.to(update.residual.dtype))
    return moved


def length_in_codes(update: Update, stored: Stored) -> Tensor:
    """Length of an update's unit in codes, in the shape of the scales."""
    if stored.scale is None:
        raise ValueError("a move of codes needs their scale")
    return update.unit[0] + update.unit[1] / stored.scale


def lane_counters(rows: Tensor, like: Tensor) -> Tensor:
    """Counters of the coordinates of a ``[R, G, W, 32]`` or ``[R, G, W, 2, 16]`` tensor, int32."""
    check_lanes(like)
    word = word_counters(rows, like.shape[1], like.shape[2]).unsqueeze(-1)
    return (word * 32 + lane_indices(rows.device)).view(like.shape)
