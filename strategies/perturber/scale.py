"""QZO on output channels: one factor for each row of a quantized weight moves."""

from typing import Literal

from zolit.errors import UserError
from zolit.noise import Direction
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.reading import Site
from zolit.tensors.store import StoredWeight


class ScalePerturber(Perturber):
    """Directions on the scales of output channels; codes stay fixed (QZO, arXiv 2505.13430).

    A perturbed read multiplies the layer's output by ``1 +- eps * z`` for each channel, so the
    weight is decoded once for both signs and no noise is made for it. All groups of a row move
    by the same factor.

    Args:
        eps: step of a perturbed read, as a fraction of each scale. The paper's absolute 1e-3
            is larger than many scales.
        distribution: ``gaussian`` as in the paper, or ``rademacher``.
        float_unit: unit of tuned weights that stay floating point.
    """

    def __init__(
        self,
        eps: float = 1e-2,
        distribution: Literal["gaussian", "rademacher"] = "gaussian",
        float_unit: float = 1.0,
    ) -> None:
        super().__init__(eps, float_unit)
        self.distribution = distribution

    def direction(self) -> Direction:
        return Direction(self.distribution)

    def check(self, quantizer: Quantizer) -> None:
        if not quantizer.quantized:
            raise UserError(
                f"perturber ScalePerturber moves quantization scales, got quantizer "
                f"{type(quantizer).__name__}; use Int8, Int4 or Float8 with it, or DensePerturber"
            )

    def quantized_site(self, index: int, store: StoredWeight) -> Site:
        return Site(index, "output_scales", (0.0, 1.0))
