"""Codes of a few bits in planes, a scale and a zero point for each group of columns."""

from typing import Any

from torch import Tensor

from zolit.kernels.apply_planes import apply_planes
from zolit.kernels.read_planes import pack_planes, read_planes, unpack_planes
from zolit.tensors.store import Rows, to_blocks
from zolit.tensors.zeroed import ZeroedWeight


class GroupedWeight(ZeroedWeight):
    """Codes of n bits in [0, 2**n - 1], n bits of memory each.

    Attributes:
        planes: ``[rows, columns / 32, n]`` int32 (`zolit.kernels.read_planes`).
        scale: ``[rows, groups]`` float32.
        zero: ``[rows, groups]`` float32, the value of code 0.
    """

    read_kernel = read_planes
    apply_kernel = apply_planes

    def __init__(self, planes: Tensor, scale: Tensor, zero: Tensor) -> None:
        self.planes, self.scale, self.zero = planes, scale, zero
        self.rows, self.columns = planes.shape[0], 32 * planes.shape[1]

    @classmethod
    def of_codes(cls, codes: Tensor, bits: int, scale: Tensor, zero: Tensor) -> "GroupedWeight":
        """Pack ``[rows, columns]`` integer codes of ``bits`` bits; columns a multiple of 32."""
        return cls(pack_planes(to_blocks(codes).int().squeeze(1), bits), scale, zero)

    @property
    def bits(self) -> int:
        """Bits of a code."""
        return self.planes.shape[2]

    def codes(self) -> Tensor:
        """Unpacked codes, ``[rows, columns]`` int32."""
        return unpack_planes(self.planes).flatten(1)

    def tensors(self) -> dict[str, Tensor]:
        return {"planes": self.planes, **self.scales()}

    def replace(self, tensors: dict[str, Tensor]) -> "GroupedWeight":
        return GroupedWeight(tensors["planes"], tensors["scale"], tensors["zero"])

    def code_blocks(self, rows: Rows) -> Tensor:
        return self.planes[rows].unflatten(1, (self.groups, -1))

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "format": f"{type(self).__name__} of {self.bits} bits"}
