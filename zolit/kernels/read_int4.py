"""Decode rows of a packed int4 weight, perturbed.

Two codes share a byte: of the 32 columns of a word, byte i holds column i in the low nibble and
column i + 16 in the high nibble, so that both nibbles of a vector of bytes decode into contiguous
vectors.
"""

import torch
from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.kernels.read import store_copies
from zolit.noise import Direction

HALF = 16
"""Bytes of a word, and columns between the two codes of a byte."""


def unpack(packed: Tensor) -> Tensor:
    """Signed codes of int8 bytes: ``[..., 16]`` as ``[..., 2, 16]`` int32, low nibbles first."""
    byte = packed.to(torch.int32).unsqueeze(-2)
    # The nibble goes to the top of the int32; shifted back arithmetically it keeps its sign.
    shift = 28 - 4 * torch.arange(0, 2, 1, dtype=torch.int32, device=packed.device).unsqueeze(-1)
    return (byte << shift) >> 28


def pack(codes: Tensor) -> Tensor:
    """`unpack` undone: ``[..., 2, 16]`` int32 codes in [-8, 7] as ``[..., 16]`` int8 bytes."""
    low, high = codes.unbind(-2)
    return ((high << 4) | (low & 0xF)).to(torch.int8)


@kernel
def read_int4(
    packed: Tensor,
    scale: Tensor,
    zero: Tensor | None,
    rows: Tensor,
    outs: list[Tensor],
    direction: Direction | None = None,
    control: Tensor | None = None,
    amplitude: Tensor | None = None,
) -> None:
    """``outs = codes * scale + zero +- (amplitude[0] * scale + amplitude[1]) * z``.

    Args:
        packed: ``[R, G, W, 16]`` int8 bytes; G groups of W words of 32 columns.
        scale: ``[R, G, 1, 1]`` float32.
        zero: ``[R, G, 1, 1]`` float32, value of code 0; None where it is 0 everywhere.
        rows: ``[R]`` int32 indices of these rows within the weight.
        outs: one or two ``[R, G, W, 2, 16]`` float tensors. Five dimensions, because halves cut
            out of 32 inside a kernel become masked writes, many times slower.
        direction: distribution, None to read without noise.
        control: ``[8]`` int32 key words.
        amplitude: ``[2]`` float32, see `zolit.kernels.read.Perturbation`.
    """
    length = None
    if amplitude is not None:
        length = (amplitude[0] * scale + amplitude[1]).unsqueeze(-1)
    value = unpack(packed).float() * scale.unsqueeze(-1)
    if zero is not None:
        value = value + zero.unsqueeze(-1)
    store_copies(value, outs, rows, direction, control, length)
