"""Float8 (e4m3) weights over torchao's Float8Tensor."""

import torch
from torch import Tensor

from zolit.compat import Float8Tensor
from zolit.formats.affine import ByteWeight, quantize_rows
from zolit.kernels.apply_float8 import apply_float8
from zolit.kernels.read_float8 import read_float8


class Float8Weight(ByteWeight):
    """e4m3 codes with a scale per row. A "code unit" is one scale."""

    levels = 896

    read_kernel = read_float8
    apply_kernel = apply_float8

    @classmethod
    def from_torchao(cls, tensor: Float8Tensor) -> "Float8Weight":
        """Share the codes of a row-wise torchao tensor; scales become float32."""
        return cls(tensor.qdata, tensor.scale.float().view(-1, 1))

    def to_torchao(self, dtype: torch.dtype) -> Float8Tensor:
        """A torchao tensor of logical ``dtype`` that shares the codes."""
        return Float8Tensor(self.codes, self.scale, block_size=[1, self.columns], dtype=dtype)

    @classmethod
    def quantize(cls, weight: Tensor) -> "Float8Weight":
        """Round to nearest: ``scale = max |w| / 448`` of the row."""

        def quantize(part: Tensor) -> tuple[Tensor, Tensor]:
            scale = (part.abs().amax(dim=1, keepdim=True) / 448.0).clamp(min=1e-12)
            return part.div_(scale).to(torch.float8_e4m3fn), scale

        return cls(*quantize_rows(quantize, weight))
