"""Int8 weights with zero points."""

from torch import Tensor

from zolit.formats.affine import ByteWeight
from zolit.formats.zeroed import ZeroedWeight
from zolit.kernels.apply_int8 import apply_int8
from zolit.kernels.read_int8 import read_int8


class Int8ZeroWeight(ZeroedWeight, ByteWeight):
    """Int8 codes with a scale and a zero point for each row or group of columns."""

    read_kernel = read_int8
    apply_kernel = apply_int8

    def __init__(self, codes: Tensor, scale: Tensor, zero: Tensor) -> None:
        super().__init__(codes, scale)
        self.zero = zero

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, **self.scales()}

    def replace(self, tensors: dict[str, Tensor]) -> "Int8ZeroWeight":
        return Int8ZeroWeight(tensors["codes"], tensors["scale"], tensors["zero"])
