"""Int8 weights, optionally with int8 activations."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.formats.affine import check_group_size, valid_group_size
from zolit.formats.int8 import Int8Weight
from zolit.strategies.quantizer.base import Quantizer
from zolit.strategies.quantizer.excluded import filled


class Int8(Quantizer):
    """Symmetric int8 codes, rounded to nearest.

    Args:
        group_size: input channels that share a scale, a multiple of 32; None for one scale a row.
        activations: ``float`` decodes weights to the activations' dtype; ``int8`` quantizes the
            activations of each token and multiplies integers (W8A8), which needs one scale a row.
        keep_error: keep the rounding error of each weight for an optimizer with error feedback.

    Raises:
        UserError: if ``activations`` is ``int8`` and a group size is given.

    Example:
        >>> Int8(group_size=32).store(torch.ones(4, 64), "weight").scale.shape
        torch.Size([4, 2])
    """

    straight_through: ClassVar[bool] = True

    def __init__(
        self,
        group_size: int | None = None,
        activations: Literal["float", "int8"] = "float",
        keep_error: bool = False,
    ) -> None:
        if activations == "int8" and group_size is not None:
            raise UserError(
                f"group_size must be null with activations=int8, got {group_size}; an integer "
                "product has one scale a row"
            )
        self.group_size = None if group_size is None else valid_group_size(group_size)
        self.keep_error = keep_error
        self.integer_products = activations == "int8"

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> Int8Weight:
        if self.group_size is not None:
            check_group_size(self.group_size, weight.shape[1], path)
        activations = torch.int8 if self.integer_products else None
        weight = filled(weight, excluded, self.group_size)
        return Int8Weight.quantize(weight, self.group_size, activations)
