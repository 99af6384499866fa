"""Write single floats into decoded rows, at plus and at minus a direction."""

import torch
from torch import Tensor

from zolit.kernels.arguments import Perturbation
from zolit.kernels.dispatch import kernel
from zolit.kernels.rounding import round_to_bfloat16
from zolit.noise import coordinates_at, hash_words


@kernel
def put_entries(
    outs: list[Tensor], places: Tensor, values: Tensor, entries: Tensor, noise: Perturbation
) -> None:
    """``out[places] = values +- amplitude[1] * z``, in place; the rest of ``out`` stays as it is.

    A step of 1e-3 is shorter than the spacing of bfloat16 numbers above 0.25: rounded to nearest,
    it would not change the loss. So bfloat16 is rounded stochastically, with the same draw at plus
    and at minus. The difference of the two is then twice the step on average, and exactly twice the
    step where the grid is fine enough.

    Args:
        outs: one or two vectors of the same length, float32 or bfloat16: decoded rows, flattened.
        places: ``[N]`` integers, the index of each float; all are different.
        values: ``[N]`` float32.
        entries: ``[N]`` int32, the number of each float in its weight, by which its coordinate is
            drawn.
        noise: the direction; its curvature is that of all floats of the weight.
    """
    control = noise.control
    move = noise.amplitude[1] * coordinates_at(noise.direction, control, entries)
    if noise.curvature is not None:
        move = move * torch.rsqrt(noise.curvature.view(-1)[entries])
    draw = hash_words(entries, control[4], control[5]) & 0xFFFF
    outs[0][places] = _in_dtype(values + move, outs[0].dtype, draw)
    if len(outs) == 2:
        outs[1][places] = _in_dtype(values - move, outs[1].dtype, draw)


def _in_dtype(value: Tensor, dtype: torch.dtype, draw: Tensor) -> Tensor:
    """Float32 numbers in another dtype; to bfloat16 they are rounded by the draw."""
    return (round_to_bfloat16(value, draw) if dtype == torch.bfloat16 else value).to(dtype)
