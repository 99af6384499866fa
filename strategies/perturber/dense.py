"""Move floating-point weights (MeZO)."""

from typing import Literal

from zolit.coordinates import Coordinates
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.noise import Direction
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer


class DensePerturber(Perturber):
    """Directions on floating-point weights (MeZO, arXiv 2305.17333, Algorithm 1).

    Args:
        eps: step of a perturbed read, in weights; by default 1e-3, or 1e-2 where only an adapter
            moves.
        distribution: ``gaussian`` as in the paper, or ``rademacher``, which needs a thirtieth of
            the hashes. The variance of the estimate is the same.

    Example:
        >>> DensePerturber(eps=1e-3).direction().distribution
        'gaussian'
    """

    def __init__(
        self, eps: float | None = None, distribution: Literal["gaussian", "rademacher"] = "gaussian"
    ) -> None:
        super().__init__(eps)
        self.distribution = distribution

    def direction(self) -> Direction:
        return Direction(self.distribution)

    def check(self, quantizer: Quantizer) -> None:
        if quantizer.quantized:
            fitting = (
                "CodePerturber or ScalePerturber" if quantizer.codes_move else "ScalePerturber"
            )
            raise UserError(
                f"perturber DensePerturber moves floating-point weights, got quantizer "
                f"{type(quantizer).__name__}; use {fitting} with it, or quantizer NoQuantizer"
            )

    def quantized_coordinates(self, store: StoredWeight) -> Coordinates:
        raise UserError("DensePerturber cannot move quantized weights; use CodePerturber")
