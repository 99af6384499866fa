"""Codes of a few bits in planes, a scale and a zero point for each group of columns."""

from typing import Any

import torch
from torch import Tensor

from zolit.formats.base import Rows, chunks, to_blocks
from zolit.formats.zeroed import ZeroedWeight
from zolit.kernels.apply_planes import apply_planes
from zolit.kernels.read_planes import pack_planes, read_planes, unpack_planes

_CHUNK_ROWS = 256
"""Rows packed at once: int32 copies of their codes are held beside the result."""


class GroupedWeight(ZeroedWeight):
    """Codes of n bits in [0, 2**n - 1], n bits of memory each.

    Attributes:
        planes: n times ``[rows, columns / 32]`` int32 (`zolit.kernels.read_planes`), each a tensor
            of its own: views of one could not be written to by one kernel.
        scale: ``[rows, groups]`` float32.
        zero: ``[rows, groups]`` float32, the value of code 0; None where code ``2**(n - 1)`` is 0.
    """

    read_kernel = read_planes
    apply_kernel = apply_planes

    def __init__(self, planes: list[Tensor], scale: Tensor, zero: Tensor | None) -> None:
        self.planes, self.scale, self.zero = planes, scale, zero
        self.rows, self.columns = planes[0].shape[0], 32 * planes[0].shape[1]
        self.levels = 1 << len(planes)

    @classmethod
    def of_codes(
        cls, codes: Tensor, bits: int, scale: Tensor, zero: Tensor | None
    ) -> "GroupedWeight":
        """Pack ``[rows, columns]`` integer codes of ``bits`` bits; columns a multiple of 32."""
        planes = [
            torch.empty(codes.shape[0], codes.shape[1] // 32, dtype=torch.int32)
            for _ in range(bits)
        ]
        for rows in chunks(codes.shape[0], _CHUNK_ROWS):
            blocks = to_blocks(codes[rows].to(torch.int32)).squeeze(1)
            for plane, part in zip(planes, pack_planes(blocks, bits), strict=True):
                plane[rows] = part.squeeze(-1)
        return cls([plane.to(codes.device) for plane in planes], scale, zero)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return len(self.planes)

    def codes(self) -> Tensor:
        """Unpacked codes, ``[rows, columns]`` int32."""
        return unpack_planes([plane.unsqueeze(-1) for plane in self.planes]).flatten(1)

    def tensors(self) -> dict[str, Tensor]:
        return {f"plane{k}": plane for k, plane in enumerate(self.planes)} | self.scales()

    def replace(self, tensors: dict[str, Tensor]) -> "GroupedWeight":
        planes = [tensors[f"plane{k}"] for k in range(self.bits)]
        return type(self)(planes, tensors["scale"], tensors.get("zero"))

    def code_blocks(self, rows: Rows) -> list[Tensor]:
        return [p[rows].unflatten(1, (self.groups, -1)).unsqueeze(-1) for p in self.planes]

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "format": f"{type(self).__name__} of {self.bits} bits"}
