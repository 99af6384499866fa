"""Float8 weights, optionally with float8 activations."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from zolit.formats.float8 import Float8Weight
from zolit.strategies.quantizer.base import Quantizer
from zolit.strategies.quantizer.excluded import filled


class Float8(Quantizer):
    """Float8 weights (e4m3) with a scale for each row, rounded to nearest.

    Args:
        activations: ``float`` decodes weights to the activations' dtype; ``float8`` also rounds the
            activations of each token to e4m3. This is emulated: the product itself is in the
            activations' dtype.
        keep_error: keep the rounding error of each weight for an optimizer with error feedback.

    Example:
        >>> Float8().store(torch.ones(4, 32), "weight").codes.dtype
        torch.float8_e4m3fn
    """

    straight_through: ClassVar[bool] = True

    def __init__(
        self, activations: Literal["float", "float8"] = "float", keep_error: bool = False
    ) -> None:
        self.activations = activations
        self.keep_error = keep_error

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> Float8Weight:
        activations = torch.float8_e4m3fn if self.activations == "float8" else None
        weight = filled(weight, excluded, None)
        return Float8Weight.quantize(weight, activations)
