"""No quantization: weights stay floats."""

from typing import ClassVar

from torch import Tensor

from zolit.formats.dense import DenseWeight
from zolit.strategies.quantizer.base import Quantizer


class NoQuantizer(Quantizer):
    """Keeps floating-point weights, in the memory of the loaded model.

    Example:
        >>> import torch
        >>> NoQuantizer().store(torch.ones(2, 3), "weight").floats().shape
        torch.Size([2, 3])
    """

    quantized: ClassVar[bool] = False

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> DenseWeight:
        return DenseWeight(weight)
