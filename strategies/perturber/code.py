"""Move the codes of quantized weights (QuZO)."""

from collections.abc import Sequence
from typing import Literal

from zolit.coordinates import Coordinates, Elements
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.noise import Direction
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.weight import PerturbedWeight


class CodePerturber(Perturber):
    """Low-bit directions on the codes of quantized weights (QuZO, arXiv 2502.12346).

    A Gaussian direction u is rounded stochastically onto a grid of ``perturb_bits`` bits: by one
    draw for the perturbed reads (u_1) and by another for the update (u_2). Given u, the two draws
    are independent, so ``E[u_1 u_2^T] = I`` and the estimate has no bias from rounding. The
    released code takes one draw for both.

    Args:
        eps: step of a perturbed read, in ``unit``. The default moves about the same fraction of a
            weight in every format. In codes it is 1 for int8, 0.1 for int4 and 2 for float8, made a
            whole number of codes for products of integers, and the smallest of these if a model has
            several formats. In weights it is 1e-3.
        unit: ``code`` counts steps of the integer grid (for float8: of the scale), so that eps
            means the same in every layer; ``weight`` counts in weights, as the paper does.
        distribution: ``gaussian`` as in the paper, or ``rademacher``, whose directions lie on the
            grid and need no rounding.
        perturb_bits: bits of the grid of a Gaussian direction, 2 to 8; null leaves it unrounded.
        float_unit: unit of tuned weights that stay floats.

    Raises:
        UserError: if ``eps`` or ``perturb_bits`` is out of range.

    Example:
        >>> CodePerturber(distribution="rademacher").direction().grid_step
        1.0
    """

    def __init__(
        self,
        eps: float | None = None,
        unit: Literal["code", "weight"] = "code",
        distribution: Literal["gaussian", "rademacher"] = "gaussian",
        perturb_bits: int | None = 4,
        float_unit: float = 1e-3,
    ) -> None:
        super().__init__(eps, float_unit)
        if perturb_bits is not None and not 2 <= perturb_bits <= 8:
            raise UserError(
                f"perturb_bits must be from 2 to 8 or null, got {perturb_bits}; for one bit use "
                "distribution: rademacher"
            )
        self.unit = unit
        self.distribution = distribution
        self.perturb_bits = perturb_bits if distribution == "gaussian" else None

    def direction(self) -> Direction:
        return Direction(self.distribution, self.perturb_bits)

    def check(self, quantizer: Quantizer) -> None:
        name = type(quantizer).__name__
        if not quantizer.quantized:
            raise UserError(
                f"perturber CodePerturber moves integer or float8 codes, got quantizer {name}; "
                "use DensePerturber with it, or quantizer Int8, Int4 or Float8"
            )
        self.check_codes_move(quantizer.codes_move, f"quantizer {name}")
        if not quantizer.integer_products:
            return
        step = self.direction().grid_step
        if self.unit != "code" or step is None:
            raise UserError(
                f"perturber CodePerturber must keep codes integer for {name} with "
                f"activations=int8, got unit={self.unit} and perturb_bits={self.perturb_bits}; "
                "use unit: code with perturb_bits 2 to 8 or distribution: rademacher"
            )
        if self._eps is None or not self.eps_given:
            return  # `default_eps` chooses whole codes
        jump = self._eps * step
        if jump < 0.5 or abs(jump - round(jump)) > 1e-3 * jump:
            raise UserError(
                f"eps must be a whole multiple of {1 / step:.6g} for {name} with activations=int8 "
                f"(codes stay integer), got {self._eps}; try {max(1, round(jump)) / step:.6g}"
            )

    def default_eps(self, weights: Sequence[PerturbedWeight], adapter: bool) -> float:
        stores = [weight.store for weight in weights if weight.store.quantized]
        if not stores:
            return super().default_eps(weights, adapter)
        if self.unit == "weight":
            return 1e-3
        eps = min(_eps_in_codes(store.levels) for store in stores)
        step = self.direction().grid_step
        if step is None or not any(store.integer_products for store in stores):
            return eps
        return max(1, round(eps * step)) / step

    def quantized_coordinates(self, store: StoredWeight) -> Coordinates:
        self.check_codes_move(store.codes_move, type(store).__name__)
        return Elements((1.0, 0.0) if self.unit == "code" else (0.0, 1.0))


def _eps_in_codes(levels: float) -> float:
    """The default eps in codes: a tenth of a code for the 16 levels of int4, more in proportion.

    It is at most 1 for formats of up to 256 levels. For float8, whose range of 896 scales makes its
    unit short, it is at most 2.
    """
    return min(0.1 * levels / 16, 1.0 if levels <= 256 else 2.0)
