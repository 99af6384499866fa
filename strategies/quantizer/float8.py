"""Float8 weights, optionally with float8 activations."""

from typing import ClassVar, Literal

from torch import Tensor

from zolit.formats.float8 import Float8Weight
from zolit.formats.integer import EmulatedFloat8Weight
from zolit.strategies.quantizer.base import Quantizer


class Float8(Quantizer):
    """e4m3 codes with a scale per row, rounded to nearest.

    Args:
        activations: ``float`` decodes weights to the activations' dtype; ``float8`` also rounds
            activations to e4m3 per token (emulated: the product itself is in the wider dtype).
        keep_error: keep what rounding left of each weight for an optimizer with error feedback.
    """

    integer_codes: ClassVar[bool] = False

    def __init__(
        self, activations: Literal["float", "float8"] = "float", keep_error: bool = False
    ) -> None:
        self.activations = activations
        self.keep_error = keep_error

    def store(self, weight: Tensor, path: str) -> Float8Weight:
        kind = EmulatedFloat8Weight if self.activations == "float8" else Float8Weight
        return kind.quantize(weight)
