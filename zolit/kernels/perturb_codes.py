"""Perturb int8 codes on their own grid, for integer matrix products."""

import torch
from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.noise import Direction, check_lanes, coordinates


@kernel
def perturb_codes(
    codes: Tensor,
    rows: Tensor,
    outs: list[Tensor],
    direction: Direction,
    control: Tensor,
    amplitude: Tensor,
) -> None:
    """``outs = codes +- d`` with integer ``d = amplitude[0] * z``.

    A coordinate that would leave the int8 range on either side does not move in either copy, so
    that the pair stays symmetric.

    Args:
        codes: ``[R, G, W, 32]`` int8.
        rows: ``[R]`` int32 indices of these rows within the weight.
        outs: one or two ``[R, G, W, 32]`` int8 tensors.
        direction: distribution, whose grid times ``amplitude[0]`` must be integers.
        control: ``[8]`` int32 key words.
        amplitude: ``[2]`` float32; ``amplitude[0]`` in codes, ``amplitude[1]`` must be 0.
    """
    check_lanes(codes)
    z = coordinates(direction, control, rows, codes.shape[1], codes.shape[2])
    jump = torch.floor(amplitude[0] * z + 0.5).to(torch.int32)
    code = codes.to(torch.int32)
    inside = (code + jump.abs() <= 127) & (code - jump.abs() >= -128)
    jump = torch.where(inside, jump, 0)
    outs[0].copy_((code + jump).to(torch.int8))
    if len(outs) == 2:
        outs[1].copy_((code - jump).to(torch.int8))
