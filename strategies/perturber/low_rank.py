"""Move matrices along directions of low rank (LOZO)."""

from typing import ClassVar, Literal

from zolit.coordinates import Coordinates, Elements, LowRank
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.noise import Direction
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer


class LowRankPerturber(Perturber):
    """Directions ``z = sum_k u_k v_k^T / sqrt(rank)`` on every matrix (LOZO, arXiv 2410.07698).

    A perturbed read adds ``eps * (x @ v) u^T`` to the layer's output. So the weight is decoded once
    for both signs, and no noise of its size is made. The coordinates of z have variance 1 and are
    uncorrelated, so the estimate is unbiased, as it is with independent ones. LOZO keeps v for
    several steps; here both factors are new in each step.

    Weights with one row (norms, biases) move along directions of independent coordinates.

    Args:
        eps: step of a perturbed read, in weights.
        rank: number of outer products in a direction, 1 to 64.
        distribution: of the elements of the factors: ``rademacher``, or ``gaussian`` as in the
            paper, whose products have heavier tails.
        float_unit: unit of tuned weights that stay floats.

    Raises:
        UserError: if ``eps`` or ``rank`` is out of range.

    Example:
        >>> LowRankPerturber(rank=2).direction().rank
        2
    """

    single_coordinates: ClassVar[bool] = False

    def __init__(
        self,
        eps: float = 1e-3,
        rank: int = 1,
        distribution: Literal["gaussian", "rademacher"] = "rademacher",
        float_unit: float = 1.0,
    ) -> None:
        super().__init__(eps, float_unit)
        if not 1 <= rank <= 64:
            raise UserError(f"rank must be from 1 to 64, got {rank}; try 1")
        self.rank = rank
        self.distribution = distribution

    def direction(self) -> Direction:
        return Direction(self.distribution, rank=self.rank)

    def check(self, quantizer: Quantizer) -> None:
        self.check_codes_move(quantizer.codes_move, f"quantizer {type(quantizer).__name__}")

    def coordinates(self, store: StoredWeight) -> Coordinates:
        if store.quantized:
            return self.quantized_coordinates(store)
        unit = (0.0, self.float_unit)
        return Elements(unit) if store.rows == 1 else LowRank(unit)

    def quantized_coordinates(self, store: StoredWeight) -> Coordinates:
        self.check_codes_move(store.codes_move, type(store).__name__)
        return LowRank((0.0, 1.0))
