"""Int4 weights, two codes to a byte.

Byte i of a word of 32 columns holds column i in its low half and column i + 16 in its high half.
So the low halves of 16 neighbouring bytes decode to 16 neighbouring columns, and so do the high
halves.
"""

import torch
from torch import Tensor

from zolit.formats.affine import AffineWeight, quantize_rows
from zolit.formats.base import Affine
from zolit.formats.layout import to_blocks
from zolit.formats.rows import Rows
from zolit.kernels.arguments import Perturbation, Stored, Update
from zolit.kernels.dispatch import kernel
from zolit.kernels.read import scaled, write_versions
from zolit.kernels.rounding import move_codes

HALF = 16
"""Bytes of a word, and also the number of columns between the two codes of a byte."""


def unpack(packed: Tensor) -> Tensor:
    """The codes in some bytes: ``[..., 16]`` int8 as ``[..., 2, 16]`` int32, low halves first."""
    byte = packed.to(torch.int32).unsqueeze(-2)
    # Shifted to the top of the int32 and back, four bits keep their sign: ``>>`` is arithmetic.
    shift = 28 - 4 * torch.arange(0, 2, 1, dtype=torch.int32, device=packed.device).unsqueeze(-1)
    return (byte << shift) >> 28


def pack(codes: Tensor) -> Tensor:
    """The inverse of `unpack`: ``[..., 2, 16]`` int32 codes in [-8, 7] as ``[..., 16]`` int8."""
    low, high = codes.unbind(-2)
    return ((high << 4) | (low & 0xF)).to(torch.int8)


def pack_codes(codes: Tensor) -> Tensor:
    """``[R, K]`` int8 codes in [-8, 7] as the ``[R, K / 2]`` bytes of an `Int4Weight`."""
    return pack(to_blocks(codes).unflatten(-1, (2, HALF))).flatten(1)


@kernel
def read_int4(stored: Stored, outs: list[Tensor], noise: Perturbation | None = None) -> None:
    """``outs = codes * scale + zero +- (amplitude[0] * scale + amplitude[1]) * z``.

    Args:
        stored: codes ``[R, G, W, 16]`` int8 bytes; scale and zero ``[R, G, 1, 1, 1]``.
        outs: one or two ``[R, G, W, 2, 16]`` float tensors. They have five dimensions because a
            kernel that cut words of 32 into halves would use masked writes, which are many times
            slower.
        noise: the direction, None to read without.
    """
    write_versions(scaled(unpack(stored.codes), stored), stored, outs, noise)


@kernel
def move_int4(stored: Stored, update: Update) -> None:
    """Codes moved, rounded and kept in range (`move_codes`), in place.

    Args:
        stored: as for `read_int4`.
        update: step and residual ``[R, G, W, 2, 16]``.
    """
    stored.codes.copy_(pack(move_codes(unpack(stored.codes), stored, update, -8, 7)))


class Int4Weight(AffineWeight):
    """Codes in [-8, 7], two to a byte, with a scale and perhaps a zero for each group of columns.

    Args:
        packed: ``[rows, columns / 2]`` int8.
        scale: ``[rows, groups]`` float32.
        zero: ``[rows, groups]`` float32, the value of code 0; None where it is 0 everywhere.

    Example:
        >>> store = Int4Weight.quantize(torch.arange(-16.0, 16.0).view(1, 32), 32, symmetric=True)
        >>> store.packed.shape, store.codes()[0, [0, 16, 31]].tolist()
        (torch.Size([1, 16]), [-7, 0, 7])
    """

    levels = 16
    read_kernel = read_int4
    move_kernel = move_int4

    def __init__(self, packed: Tensor, scale: Tensor, zero: Tensor | None = None) -> None:
        self.packed, self.scale, self.zero = packed, scale, zero
        self.rows, self.columns = packed.shape[0], 2 * packed.shape[1]

    @classmethod
    def quantize(cls, weight: Tensor, group_size: int, symmetric: bool) -> "Int4Weight":
        """Round to nearest by group.

        Args:
            weight: ``[R, K]`` float.
            group_size: columns that share a scale.
            symmetric: True takes ``scale = max |w| / 7`` and no zero; False lets the 16 codes span
                the smallest to the largest weight of a group.
        """

        def symmetric_rows(part: Tensor) -> tuple[Tensor, ...]:
            groups = part.view(part.shape[0], -1, group_size)
            scale = (groups.abs().amax(dim=2) / 7.0).clamp(min=1e-12)
            groups.div_(scale.unsqueeze(2)).round_().clamp_(-8, 7)
            return pack_codes(part.to(torch.int8)), scale

        def spanned_rows(part: Tensor) -> tuple[Tensor, ...]:
            groups = part.view(part.shape[0], -1, group_size)
            low, high = groups.amin(dim=2), groups.amax(dim=2)
            scale = ((high - low) / 15.0).clamp(min=1e-12)
            zero = low + 8.0 * scale
            groups.sub_(zero.unsqueeze(2)).div_(scale.unsqueeze(2)).round_().clamp_(-8, 7)
            return pack_codes(part.to(torch.int8)), scale, zero

        return cls(*quantize_rows(symmetric_rows if symmetric else spanned_rows, weight))

    def codes(self) -> Tensor:
        """Unpacked codes, ``[rows, columns]`` int8."""
        return unpack(to_blocks(self.packed, width=HALF)).flatten(1).to(torch.int8)

    def affine(self) -> Affine:
        return Affine(self.codes(), self.scale, self.zero, 4, -8)

    def tensors(self) -> dict[str, Tensor]:
        return {"packed": self.packed, **self.scales()}

    def replace(self, tensors: dict[str, Tensor]) -> "Int4Weight":
        return Int4Weight(tensors["packed"], tensors["scale"], tensors.get("zero"))

    def code_blocks(self, rows: Rows) -> Tensor:
        return to_blocks(self.packed[rows], self.groups, HALF)

    def value_blocks(self, buffer: Tensor) -> Tensor:
        return to_blocks(buffer, self.groups).unflatten(-1, (2, HALF))

    def part_blocks(self, part: Tensor) -> Tensor:
        return part.view(-1, self.groups, 1, 1, 1)
