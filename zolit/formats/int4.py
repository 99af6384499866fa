"""Packed int4 weights over torchao's Int4Tensor.

torchao's own product and quantizer need the `mslk` package; zolit does both itself and
uses torchao only for the format.
"""

import torch
from torch import Tensor

from zolit.compat import Int4Tensor
from zolit.formats.affine import quantize_rows
from zolit.formats.base import Rows, to_blocks
from zolit.formats.zeroed import ZeroedWeight
from zolit.kernels.apply_int4 import apply_int4
from zolit.kernels.read_int4 import HALF, pack, read_int4, unpack


def pack_codes(codes: Tensor) -> Tensor:
    """``[R, K]`` int8 codes in [-8, 7] as the ``[R, K / 2]`` bytes of an `Int4Weight`."""
    return pack(to_blocks(codes).unflatten(-1, (2, HALF))).flatten(1)


class Int4Weight(ZeroedWeight):
    """Two codes in [-8, 7] a byte; ``w = code * scale + zero`` with scale and zero per group.

    Attributes:
        packed: ``[rows, columns / 2]`` int8.
        scale: ``[rows, groups]`` float32.
        zero: ``[rows, groups]`` float32, the value of code 0; None where it is 0 everywhere.
    """

    levels = 16

    read_kernel = read_int4
    apply_kernel = apply_int4

    def __init__(self, packed: Tensor, scale: Tensor, zero: Tensor | None = None) -> None:
        self.packed, self.scale, self.zero = packed, scale, zero
        self.rows, self.columns = packed.shape[0], 2 * packed.shape[1]

    @classmethod
    def from_torchao(cls, tensor: Int4Tensor) -> "Int4Weight":
        """A torchao tensor, its bytes repacked; scales and zeros become float32, rows first."""
        scale, zero = (t.float().t().contiguous() for t in (tensor.scale, tensor.zero_point))
        even, odd = (tensor.qdata << 4) >> 4, tensor.qdata >> 4
        packed = pack_codes(torch.stack((even, odd), dim=2).flatten(1))
        return cls(packed, scale, zero if zero.any() else None)

    def to_torchao(self, dtype: torch.dtype) -> Int4Tensor:
        """A torchao tensor of logical ``dtype``, with the bytes repacked its way."""
        zeros = torch.zeros_like(self.scale) if self.zero is None else self.zero
        scale, zero = (t.to(dtype).t().contiguous() for t in (self.scale, zeros))
        block = [1, self.columns // self.groups]
        even, odd = self.codes().view(self.rows, -1, 2).unbind(2)
        packed = (odd << 4) | (even & 0xF)
        return Int4Tensor(packed, scale, zero, block, torch.Size((self.rows, self.columns)))

    @classmethod
    def quantize(cls, weight: Tensor, group_size: int, symmetric: bool) -> "Int4Weight":
        """Round to nearest by group.

        Args:
            weight: ``[R, K]`` float.
            group_size: columns that share a scale.
            symmetric: ``scale = max |w| / 7`` and no zero; else the scale spans min to max.
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

        if symmetric:
            return cls(*quantize_rows(symmetric_rows, weight))
        return cls(*quantize_rows(spanned_rows, weight))

    def codes(self) -> Tensor:
        """Unpacked codes, ``[rows, columns]`` int8."""
        return unpack(to_blocks(self.packed, width=HALF)).flatten(1).to(torch.int8)

    def tensors(self) -> dict[str, Tensor]:
        return {"packed": self.packed, **self.scales()}

    def replace(self, tensors: dict[str, Tensor]) -> "Int4Weight":
        return Int4Weight(tensors["packed"], tensors["scale"], tensors.get("zero"))

    def code_blocks(self, rows: Rows) -> Tensor:
        return to_blocks(self.packed[rows], self.groups, HALF)

    def value_blocks(self, buffer: Tensor) -> Tensor:
        return to_blocks(buffer, self.groups).unflatten(-1, (2, HALF))
