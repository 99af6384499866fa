"""Int8 weights over torchao's Int8Tensor."""

import torch
from torch import Tensor

from zolit.compat import Int8Tensor
from zolit.formats.affine import ByteWeight, quantize_rows
from zolit.formats.zeroed import ZeroedWeight
from zolit.kernels.apply_int8 import apply_int8
from zolit.kernels.read_int8 import read_int8


class Int8Weight(ZeroedWeight, ByteWeight):
    """Symmetric int8 codes, a scale per row or per group of columns."""

    read_kernel = read_int8
    apply_kernel = apply_int8

    @classmethod
    def from_torchao(cls, tensor: Int8Tensor) -> "Int8Weight":
        """Share the codes of a symmetric torchao tensor; scales become float32."""
        scale = tensor.scale.float()
        return cls(tensor.qdata, scale if scale.dim() == 2 else scale.view(-1, 1))

    def to_torchao(self, dtype: torch.dtype) -> Int8Tensor:
        """A torchao tensor of logical ``dtype`` that shares the codes."""
        block = [1, self.columns // self.groups]
        return Int8Tensor(self.codes, self.scale.to(dtype), block, dtype)

    @classmethod
    def quantize(cls, weight: Tensor, group_size: int | None) -> "Int8Weight":
        """Round to nearest, symmetric: ``scale = max |w| / 127`` of the row or group."""

        def quantize(part: Tensor) -> tuple[Tensor, Tensor]:
            groups = part.view(part.shape[0], -1, group_size or part.shape[1])
            scale = (groups.abs().amax(dim=2) / 127.0).clamp(min=1e-12)
            groups.div_(scale.unsqueeze(2)).round_()
            return part.to(torch.int8), scale

        return cls(*quantize_rows(quantize, weight))
