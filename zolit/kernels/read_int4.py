"""Decode rows of a packed int4 weight, perturbed.

Two codes share a byte: the even column in the low nibble, the odd one in the high nibble
(torchao's `Int4Tensor`). Both nibbles of a vector of bytes decode into contiguous vectors if even
and odd columns are written to separate planes, so that is what a read does; the caller permutes
the activations alike.
"""

import torch
from torch import Tensor

from zolit.kernels.dispatch import kernel
from zolit.kernels.read import store_copies
from zolit.noise import Direction, Lanes


def unpack(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Signed codes of the low and of the high nibbles of int8 bytes, as int32 of its shape."""
    byte = packed.to(torch.int32)
    return ((byte & 0xF) ^ 8) - 8, byte >> 4


@kernel
def read_int4(
    packed: Tensor,
    scale: Tensor,
    zero: Tensor,
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
        zero: ``[R, G, 1, 1]`` float32, value of code 0.
        rows: ``[R]`` int32 indices of these rows within the weight.
        outs: even and odd plane of the first copy, then of the second if there is one, each
            ``[R, G, W, 16]`` float.
        direction: distribution, None to read without noise.
        control: ``[8]`` int32 key words.
        amplitude: ``[2]`` float32, see `zolit.kernels.read.Perturbation`.
    """
    length = None if amplitude is None else amplitude[0] * scale + amplitude[1]
    planes: tuple[Lanes, Lanes] = ("even", "odd")
    for plane, (lanes, code) in enumerate(zip(planes, unpack(packed), strict=True)):
        value = code.float() * scale + zero
        store_copies(value, outs[plane::2], rows, direction, control, length, lanes)
