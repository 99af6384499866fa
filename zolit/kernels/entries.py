"""Put single floats into decoded rows: at plus and at minus a direction."""

import torch
from torch import Tensor

from zolit.kernels.arguments import Perturbation
from zolit.kernels.dispatch import kernel
from zolit.noise import coordinates_at, hash_words


@kernel
def put_entries(
    outs: list[Tensor], places: Tensor, values: Tensor, entries: Tensor, noise: Perturbation
) -> None:
    """``out[places] = values +- amplitude[1] * z``, in place; the rest of ``out`` stays.

    A step of 1e-3 is shorter than the spacing of bfloat16 numbers above 0.25, and rounded to
    nearest the loss would not see it. So bfloat16 is rounded at random, with one draw for both
    signs: their difference is the direction on average, and exact where the grid is fine.

    Args:
        outs: one or two vectors of the same length, float32 or bfloat16: decoded rows, one behind
            the other.
        places: ``[N]`` integers, where each float goes; none comes twice.
        values: ``[N]`` float32.
        entries: ``[N]`` int32, the number of each float in its weight: its coordinate.
        noise: the direction.
    """
    control = noise.control
    move = noise.amplitude[1] * coordinates_at(noise.direction, control, entries)
    draw = hash_words(entries, control[4], control[5]) & 0xFFFF
    outs[0][places] = rounded(values + move, outs[0].dtype, draw)
    if len(outs) == 2:
        outs[1][places] = rounded(values - move, outs[1].dtype, draw)


def rounded(value: Tensor, dtype: torch.dtype, draw: Tensor) -> Tensor:
    """Float32 numbers in another dtype: bfloat16 by adding a draw below its last bit.

    Args:
        value: float32.
        dtype: of the result.
        draw: int32 of the same shape, uniform in [0, 2**16).
    """
    if dtype != torch.bfloat16:
        return value.to(dtype)
    return ((value.view(torch.int32) + draw) & -0x10000).view(torch.float32).to(dtype)
