"""Moves of stored elements, rounded onto their grid; error feedback carries what rounding loses.

Rounding is stochastic without a residual: its result is right on average. With a residual it is to
nearest, as in QES (arXiv 2602.03120): the residual keeps what a step loses, and a random draw would
only add noise.
"""

import torch
from torch import Tensor

from zolit.kernels.accumulate import whole_step
from zolit.kernels.arguments import Stored, Update
from zolit.noise import check_lanes, hash_words, lane_indices, uniform, word_counters


def with_residual(move: Tensor, update: Update) -> Tensor:
    """A move, plus what error feedback carries over from the steps before it.

    Args:
        move: float32, in the unit of the residual.
        update: its residual in the shape of ``move``.
    """
    if update.residual is None or update.decay is None:
        return move
    return move + update.decay * update.residual.float()


def integer_draw(update: Update, rows: Tensor, like: Tensor, bits: int) -> Tensor:
    """Integers that are added below the last bit that is kept, before the lower bits are cut off.

    Args:
        update: its key words of rounding, and whether it has a residual.
        rows: ``[R]`` int32 row indices.
        like: ``[R, G, W, 32]`` or ``[R, G, W, 2, 16]``.
        bits: number of bits that will be cut off.

    Returns:
        int32 in the shape of ``like``, uniform in [0, 2**bits): this rounds stochastically. With a
        residual half of the range, which rounds to nearest.
    """
    if update.residual is not None:
        return torch.full_like(like, 1 << (bits - 1), dtype=torch.int32)
    rounding = update.rounding
    return hash_words(lane_counters(rows, like), rounding[0], rounding[1]) & ((1 << bits) - 1)


def round_to_bfloat16(value: Tensor, draw: Tensor) -> Tensor:
    """Float32 numbers rounded onto the grid of bfloat16, still float32.

    Args:
        value: float32.
        draw: int32 in [0, 2**16), which `integer_draw` returns for 16 bits.
    """
    return ((value.view(torch.int32) + draw) & -0x10000).view(torch.float32)


def round_codes(
    codes: Tensor, move: Tensor, draw: Tensor, low: int, high: int
) -> tuple[Tensor, Tensor]:
    """Integer codes after a real-valued move, and the part of the move that was not made.

    ``floor(move + draw)`` rounds stochastically: its expectation is the move. A code that the jump
    would take out of ``[low, high]`` stays where it is.

    Args:
        codes: int32 codes.
        move: float32 of the same shape, in code units.
        draw: uniform in [0, 1), same shape.
        low: smallest code.
        high: largest code.

    Returns:
        int32 codes and the float32 remainder ``move - jump``.
    """
    jump = torch.floor(move + draw).clamp(-512, 512).to(torch.int32)
    moved = codes + jump
    inside = (moved >= low) & (moved <= high)
    return torch.where(inside, moved, codes), move - torch.where(inside, jump, 0).float()


def move_codes(codes: Tensor, stored: Stored, update: Update, low: int, high: int) -> Tensor:
    """``codes + round(step * (unit[0] + unit[1] / scale) + decay * residual)``.

    Args:
        codes: int32, in words of 32 columns.
        stored: the rows that the codes belong to.
        update: the step, in words; its residual is changed in place.
        low: smallest code.
        high: largest code.

    Returns:
        int32 codes in ``[low, high]``.
    """
    move = whole_step(update, codes, stored.rows) * length_in_codes(update, stored)
    move = with_residual(move, update)
    if update.residual is None:
        draw = uniform(lane_counters(stored.rows, codes), update.rounding[0], update.rounding[1])
    else:
        draw = torch.full_like(move, 0.5)
    moved, rest = round_codes(codes, move, draw, low, high)
    if update.residual is not None:
        update.residual.copy_(rest.to(update.residual.dtype))
    return moved


def length_in_codes(update: Update, stored: Stored) -> Tensor:
    """The length of an update's unit in codes, in the shape of the scales.

    Raises:
        ValueError: if the rows have no scale.
    """
    if stored.scale is None:
        raise ValueError("codes cannot be moved without their scale")
    return update.unit[0] + update.unit[1] / stored.scale


def lane_counters(rows: Tensor, like: Tensor) -> Tensor:
    """The counter of each coordinate (`zolit.noise`), int32 in the shape of ``like``.

    Args:
        rows: ``[R]`` int32 row indices.
        like: ``[R, G, W, 32]`` or ``[R, G, W, 2, 16]``.
    """
    check_lanes(like)
    word = word_counters(rows, like.shape[1], like.shape[2]).unsqueeze(-1)
    return (word * 32 + lane_indices(rows.device)).view(like.shape)
