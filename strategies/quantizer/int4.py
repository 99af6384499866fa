"""Int4 weights, two codes a byte."""

from typing import ClassVar

from torch import Tensor

from zolit.formats.affine import check_group_size, valid_group_size
from zolit.formats.int4 import Int4Weight
from zolit.strategies.quantizer.base import Quantizer
from zolit.strategies.quantizer.excluded import filled


class Int4(Quantizer):
    """Groupwise int4 codes, rounded to nearest.

    Args:
        group_size: input channels that share a scale: 32, 64 or 128, or another multiple of 32.
        symmetric: True takes codes symmetric about 0, with a scale for each group. False lets the
            codes span the smallest to the largest weight of a group, with a scale and a zero point.
        keep_error: keep the rounding error of each weight for an optimizer with error feedback.

    Example:
        >>> import torch
        >>> Int4(group_size=32).store(torch.ones(4, 64), "weight").scale.shape
        torch.Size([4, 2])
    """

    straight_through: ClassVar[bool] = True

    def __init__(
        self, group_size: int = 64, symmetric: bool = False, keep_error: bool = False
    ) -> None:
        self.group_size = valid_group_size(group_size)
        self.symmetric = symmetric
        self.keep_error = keep_error

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> Int4Weight:
        check_group_size(self.group_size, weight.shape[1], path)
        weight = filled(weight, excluded, self.group_size)
        return Int4Weight.quantize(weight, self.group_size, self.symmetric)
