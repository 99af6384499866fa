"""Decode rows of a float8 (e4m3) weight, perturbed."""

import torch
from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.kernels.read import store_copies
from zolit.noise import Direction


def decode_e4m3(bits: Tensor) -> Tensor:
    """Values of e4m3 bit patterns: int8 to float32, finite patterns only.

    The seven magnitude bits, moved to the top of float32's exponent and mantissa, are the value
    with an exponent bias of 127 instead of 7. Numbers below 2**-6 are fixed point; they take a
    branch of their own because subnormals may be flushed to zero in compiled code.
    """
    code = bits.to(torch.int32)
    magnitude = code & 0x7F
    normal = ((magnitude << 20) + (120 << 23)).view(torch.float32)
    value = torch.where(magnitude < 8, magnitude.float() * 2.0**-9, normal)
    return torch.where(code < 0, -value, value)


@kernel
def read_float8(
    codes: Tensor,
    scale: Tensor,
    rows: Tensor,
    outs: list[Tensor],
    direction: Direction | None = None,
    control: Tensor | None = None,
    amplitude: Tensor | None = None,
) -> None:
    """``outs = value(codes) * scale +- (amplitude[0] * scale + amplitude[1]) * z``.

    Args:
        codes: ``[R, G, W, 32]`` int8 view of e4m3 codes.
        scale: ``[R, G, 1, 1]`` float32.
        rows: ``[R]`` int32 indices of these rows within the weight.
        outs: one or two ``[R, G, W, 32]`` float tensors.
        direction: distribution, None to read without noise.
        control: ``[8]`` int32 key words.
        amplitude: ``[2]`` float32, see `zolit.kernels.read.Perturbation`.
    """
    length = None if amplitude is None else amplitude[0] * scale + amplitude[1]
    store_copies(decode_e4m3(codes) * scale, outs, rows, direction, control, length)
