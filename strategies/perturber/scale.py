"""Move the scales of quantized weights and leave their codes (QZO)."""

from typing import ClassVar, Literal

from zolit.coordinates import Coordinates, OutputScales, Scales
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.noise import Direction
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer


class ScalePerturber(Perturber):
    """Directions on scales; codes stay fixed (QZO, arXiv 2505.13430, Q-SPSA and Algorithm 1).

    With ``granularity: row`` a perturbed read multiplies each channel of the layer's output by
    ``1 +- eps * z``. So the weight is decoded once for both signs, and no noise of its size is
    made. The paper moves each scale by itself; a weight with groups is then decoded once for each
    sign. The zero point of a group moves with its scale. Updates keep scales at 1e-7 or more, as
    the released code does.

    Args:
        eps: step of a perturbed read, in ``eps_unit``.
        distribution: ``gaussian`` as in the paper, or ``rademacher``.
        float_unit: unit of tuned weights that stay floats.
        granularity: ``row``: one factor moves all scales of an output channel. ``group``: each
            scale moves by itself, that of a group of columns, or that of an output channel in
            formats with one scale a row (int8, float8, AQLM).
        eps_unit: the unit of ``eps`` and of steps. ``relative``: a fraction of the scale, which
            means the same in every layer. ``absolute``: a number that is added to the scale, as in
            the paper, whose 1e-3 is larger than many scales; needs ``granularity: group``.

    Raises:
        UserError: if a number is out of range, or ``absolute`` meets ``row``.

    Example:
        ::

            quantizer: Int4
            perturber:
              class_path: ScalePerturber
              init_args:
                eps: 0.01 # fraction of each scale
                granularity: group
    """

    moves_scales: ClassVar[bool] = True

    def __init__(
        self,
        eps: float = 1e-2,
        distribution: Literal["gaussian", "rademacher"] = "gaussian",
        float_unit: float = 1.0,
        granularity: Literal["row", "group"] = "row",
        eps_unit: Literal["relative", "absolute"] = "relative",
    ) -> None:
        super().__init__(eps, float_unit)
        if eps_unit == "absolute" and granularity == "row":
            raise UserError(
                "eps_unit must be relative with granularity=row, which moves all scales of a row "
                "by one factor, got absolute; use granularity: group"
            )
        self.distribution = distribution
        self.granularity = granularity
        self.eps_unit = eps_unit

    def direction(self) -> Direction:
        return Direction(self.distribution)

    def check(self, quantizer: Quantizer) -> None:
        if not quantizer.quantized:
            raise UserError(
                f"perturber ScalePerturber moves quantization scales, got quantizer "
                f"{type(quantizer).__name__}; use Int8, Int4 or Float8 with it, or DensePerturber"
            )

    def quantized_coordinates(self, store: StoredWeight) -> Coordinates:
        if self.granularity == "row":
            return OutputScales()
        return Scales((1.0, 0.0) if self.eps_unit == "relative" else (0.0, 1.0))
