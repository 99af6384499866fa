"""What weights with zero points share."""

import torch
from torch import Tensor

from zolit.formats.affine import AffineWeight
from zolit.formats.base import Rows


class ZeroedWeight(AffineWeight):
    """``w = code * scale + zero`` with scale and zero by row or by group of columns.

    Attributes:
        zero: ``[rows, groups]`` float32, the value of code 0; None where it is 0 everywhere.
    """

    zero: Tensor | None = None

    def scales(self) -> dict[str, Tensor]:
        return super().scales() | ({} if self.zero is None else {"zero": self.zero})

    def decoding(self, rows: Rows) -> list[Tensor | None]:
        zero = None if self.zero is None else self.zero[rows].view(-1, self.groups, 1, 1)
        return [*super().decoding(rows), zero]


def value_of_zero(scale: Tensor, zero_code: Tensor, offset: int) -> Tensor:
    """Weight of stored code 0 where a code c is stored as ``c - offset``.

    Args:
        scale: ``[rows, groups]`` float32.
        zero_code: ``[rows, groups]`` integer, the code of weight 0.
        offset: what was subtracted from every code.
    """
    return scale * (offset - zero_code.to(torch.int32)).float()
