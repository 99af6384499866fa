"""How far the steps of a run move its weights."""

import math
from typing import Any

from zolit.gradient import TakenStep
from zolit.optim import StepsAlongDirections
from zolit.tensors.extent import importance_weight, relative_direction
from zolit.tensors.weight import PerturbedWeight
from zolit.training.zero_order import ZeroOrderModule


class StepLength:
    """Lengths of steps relative to the weights that they move, from the records of the steps.

    A step along directions ``z_q`` by ``c_q`` has the expected squared length ``sum c_q**2``,
    counted in directions. The length of a direction is known, so no pass over the weights is
    needed. Rounding onto a grid is not counted, and neither is the part of a move that error
    feedback still holds back.

    Args:
        module: prepared, before its first step.
    """

    def __init__(self, module: ZeroOrderModule) -> None:
        weights = module.weights
        self._direction = relative_direction(weights)
        self._squares: list[float] = []
        self._codes = _longest_in_codes(weights)
        self._without = 0

    def take(self, taken: TakenStep, optimizer: Any) -> None:
        """Count a step that was made.

        Steps of an optimizer that does not say how far it goes along each direction
        (`StepsAlongDirections`) are left out.
        """
        if not isinstance(optimizer, StepsAlongDirections) or not len(taken.gradient):
            return
        factors = optimizer.direction_factors(taken.gradient.values).double()
        if not len(factors):  # a step of another kind
            return
        length = max(taken.rates) * float(factors.square().sum().sqrt()) * self._direction
        self._squares.append(length**2)
        self._without = self._without + 1 if length == 0 else 0

    @property
    def steps(self) -> int:
        """Number of steps counted so far."""
        return len(self._squares)

    @property
    def without_move(self) -> int:
        """Number of steps without any move since the last step that moved."""
        return self._without

    @property
    def codes(self) -> float:
        """Expected move of a code so far, in codes, in the weight where it is largest; 0 if no code
        moves."""
        return self.reach / self._direction * self._codes if self._squares else 0.0

    @property
    def relative(self) -> float:
        """Root mean square of the lengths, as a fraction of the weights."""
        return math.sqrt(sum(self._squares) / len(self._squares)) if self._squares else 0.0

    @property
    def reach(self) -> float:
        """Expected length of all steps together, as a fraction of the weights."""
        return math.sqrt(sum(self._squares))


def _longest_in_codes(weights: list[PerturbedWeight]) -> float:
    """Length of a coordinate's unit in codes, in the weight where it is largest.

    It counts the importance weight, as updates do.
    """
    return max(
        (
            weight.site.coordinates.length_in_codes(weight.store)
            * math.sqrt(importance_weight(weight))
            for weight in weights
            if weight.site is not None
        ),
        default=0.0,
    )
