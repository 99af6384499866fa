"""Move a few entries of each weight, kept as floats beside the codes of the others (SensZOQ)."""

import inspect
import math
from typing import ClassVar, Literal

from zolit.coordinates import Coordinates, Entries, Extent
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.noise import Direction
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.extent import extent
from zolit.tensors.weight import PerturbedWeight


class SparsePerturber(Perturber):
    """Directions on the entries that the mask chooses (SensZOQ, arXiv 2406.02913).

    In each quantized weight that `tune` names, these entries are kept as floats and are left out
    when the others are quantized. They alone move. A read decodes the weight once for both signs,
    and noise is made for these entries only. A checkpoint holds them, and not the matrix.

    Tuned weights that stay floats (norms, biases) move as they do with `DensePerturber`, where the
    mask lets them.

    Args:
        eps: step of a perturbed read, in weights.
        distribution: ``gaussian`` as in the paper, or ``rademacher``.
        float_unit: unit of tuned weights that stay floats.

    Raises:
        UserError: if a number is out of range.

    Example:
        >>> SparsePerturber().direction()
        Direction(distribution='gaussian', bits=None, rank=None)
    """

    overlays: ClassVar[bool] = True

    def __init__(
        self,
        eps: float = 1e-3,
        distribution: Literal["gaussian", "rademacher"] = "gaussian",
        float_unit: float = 1.0,
    ) -> None:
        super().__init__(eps, float_unit)
        self.distribution = distribution

    def direction(self) -> Direction:
        return Direction(self.distribution)

    def check(self, quantizer: Quantizer) -> None:
        name = type(quantizer).__name__
        if not quantizer.quantized:
            raise UserError(
                f"perturber SparsePerturber keeps floats beside codes, got quantizer {name}, which "
                f"makes no codes; use DensePerturber with the same mask"
            )
        if quantizer.integer_products:
            raise UserError(
                f"perturber SparsePerturber keeps floats beside codes, got quantizer {name} with "
                "activations=int8, whose products are of integers; use activations: float"
            )
        if quantizer.keep_error:
            raise UserError(
                f"perturber SparsePerturber moves no codes, got quantizer {name} with keep_error, "
                "which keeps what they leave of a weight; use keep_error: false"
            )
        if "excluded" not in inspect.signature(quantizer.store).parameters:
            raise UserError(
                f"perturber SparsePerturber keeps entries out of what is quantized, got quantizer "
                f"{name}, whose store has no argument for them; use Int4, Int8 or HQQ, or give it "
                "one named excluded"
            )

    def counted(self, weight: PerturbedWeight) -> Extent:
        """All entries of the matrix, as with `DensePerturber`.

        What bounds a rate is the curvature that a step meets. The most sensitive 0.1 % of the
        entries hold about half of it, by the paper's sum of squared gradients, so the rate is about
        that of all entries. Entries that are chosen at random hold a much smaller part, and bear a
        higher rate.
        """
        found = extent(weight)
        if not isinstance(weight.store, SparseOverlay):
            return found
        every = weight.store.rows * weight.store.columns
        return Extent(False, every, math.sqrt(every))

    def quantized_coordinates(self, store: StoredWeight) -> Coordinates:
        if not isinstance(store, SparseOverlay):
            raise UserError(
                f"perturber SparsePerturber moves floats beside a weight, got {store.title} "
                "without; use CodePerturber or ScalePerturber with it"
            )
        return Entries()
