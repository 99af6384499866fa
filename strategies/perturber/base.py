"""The base class of perturbers, which name the coordinates and directions of a run."""

import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import ClassVar

from zolit.arguments import Checked, positive
from zolit.coordinates import Coordinates, Elements, Extent
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.noise import Direction
from zolit.options import OnResume
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.extent import extent, importance_weight
from zolit.tensors.weight import PerturbedWeight

_FEWEST = {"elements": 1_500_000, "scales": 40_000}
"""Numbers of coordinates below which `Perturber.default_lr` no longer grows."""


class Perturber(Checked, ABC):
    """Chooses which coordinates of a model move, their unit, and the distribution of directions.

    Args:
        eps: step along a direction in a perturbed read, in units of the coordinate. None lets
            `default_eps` choose it when the weights are known.
        float_unit: unit of tuned weights that stay floats (norms, biases, embeddings, where `tune`
            names them): they move by ``eps * float_unit * z``.

    Attributes:
        eps_given: whether the user gave ``eps``.
        moves_scales: whether the scales of quantized weights move, and not their elements.
        overlays: whether the entries that the mask chooses are kept as floats beside quantized
            weights (`zolit.formats.sparse_overlay`).
        single_coordinates: whether each coordinate of a weight moves by itself, so that a mask can
            leave single ones out. Along a direction of low rank they do not.
        reach: the product of learning rate and squared length of a direction that `default_lr`
            aims at: for ``elements``, counted in weights, and for ``scales``, in fractions of each.

    Raises:
        UserError: if ``eps`` or ``float_unit`` is not a positive finite number.

    Example:
        >>> class Codes(Perturber):
        ...     def direction(self):
        ...         return Direction("rademacher")
        ...     def check(self, quantizer):
        ...         pass
        ...     def quantized_coordinates(self, store):
        ...         return Elements((1.0, 0.0))
        >>> Codes(eps=1.0).direction().grid_step
        1.0
    """

    # Only perturbed reads depend on eps. A replay makes none: the journal holds their results.
    on_resume: ClassVar[Mapping[str, OnResume]] = {"eps": OnResume.FREE}
    overlays: ClassVar[bool] = False
    reach: ClassVar[dict[str, float]] = {"elements": 3000.0, "scales": 400.0}
    single_coordinates: ClassVar[bool] = True
    moves_scales: ClassVar[bool] = False

    def __init__(self, eps: float | None, float_unit: float = 1.0) -> None:
        for name, value in (("eps", eps), ("float_unit", float_unit)):
            if value is not None:
                positive(name, value, "try 1e-3")
        self._eps = eps
        self.eps_given = eps is not None
        self.float_unit = float_unit

    @property
    def eps(self) -> float:
        """Step along a direction in a perturbed read, in units of the coordinate.

        Raises:
            RuntimeError: if it was left open and `settle` has not been called.
        """
        if self._eps is None:
            raise RuntimeError("eps was left open; settle(weights) chooses it")
        return self._eps

    def settle(self, weights: Sequence[PerturbedWeight], adapter: bool = False) -> None:
        """Choose ``eps`` if it was left open.

        Args:
            weights: those that move.
            adapter: whether all of them are an adapter's.
        """
        if not self.eps_given:
            self._eps = self.default_eps(weights, adapter)

    def take_eps(self, eps: float) -> None:
        """Use another eps from now on, as if the user had given it."""
        self._eps, self.eps_given = eps, True

    def default_eps(self, weights: Sequence[PerturbedWeight], adapter: bool) -> float:
        """The eps to take where the user gave none.

        As in MeZO it is 1e-3 for weights, and 1e-2 for the factors of an adapter, which multiply
        each other.

        Args:
            weights: those that move.
            adapter: whether all of them are an adapter's.
        """
        return (1e-2 if adapter else 1e-3) / self.float_unit

    def default_lr(self, weights: Sequence[PerturbedWeight], queries: int) -> float:
        """A learning rate to start with, in squared units of the coordinate per unit of loss.

        The longer a direction, the more curvature a step along it meets, and the shorter the step
        has to be. So the rate is ``queries * reach / length**2``, with the squared length of a
        direction summed over all weights. The fewer coordinates move, the more curvature each of
        them meets, so fewer coordinates than `_FEWEST` count as that number.
        docs/methods/learning_rates.md shows where the numbers come from.

        Args:
            weights: those that move.
            queries: directions that a step averages.
        """
        coordinates: dict[str, int] = defaultdict(int)
        squared: dict[str, float] = defaultdict(float)
        for weight in weights:
            found = self.counted(weight)
            kind = "scales" if found.scales else "elements"
            coordinates[kind] += found.coordinates
            squared[kind] += found.length**2 * importance_weight(weight)
        burden = sum(
            length / self.reach[kind] * max(1.0, _FEWEST[kind] / coordinates[kind])
            for kind, length in squared.items()
        )
        return _two_digits(queries / burden)

    def counted(self, weight: PerturbedWeight) -> Extent:
        """How much of a weight moves, as `default_lr` counts it."""
        return extent(weight)

    @abstractmethod
    def direction(self) -> Direction:
        """The distribution of the directions."""

    @abstractmethod
    def check(self, quantizer: Quantizer) -> None:
        """Refuse a quantizer whose weights have no such coordinates.

        Raises:
            UserError: naming both parts and what to use instead.
        """

    def coordinates(self, store: StoredWeight) -> Coordinates:
        """The coordinates of one weight that move, with their unit.

        Raises:
            UserError: if it has no coordinates that this perturber moves.
        """
        if not store.quantized:
            return Elements((0.0, self.float_unit))
        return self.quantized_coordinates(store)

    @abstractmethod
    def quantized_coordinates(self, store: StoredWeight) -> Coordinates:
        """The coordinates that move of a weight that is stored as codes.

        Raises:
            UserError: if it has no coordinates that this perturber moves.
        """

    def check_codes_move(self, codes_move: bool, got: str) -> None:
        """Refuse codes that are indices of a table, for perturbers that move codes on their grid.

        Args:
            codes_move: of the quantizer or the stored weight.
            got: names these in the message.

        Raises:
            UserError: unless the codes move.
        """
        if not codes_move:
            raise UserError(
                f"perturber {type(self).__name__} moves numbers along their grid, got {got}, whose "
                "codes are indices of a table; use ScalePerturber or SparsePerturber with it, or "
                "quantizer Int4"
            )


def _two_digits(value: float) -> float:
    """A positive number rounded down to two digits, as a rule of thumb is no more exact."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.floor(value / unit * (1 + 1e-9)) * unit:.1e}")
