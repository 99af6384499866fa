"""The slope and the curvature of the loss along each direction, from three reads (HiZOO)."""

from typing import ClassVar

import torch

from zolit.errors import UserError
from zolit.strategies.estimator.base import Estimate, Losses
from zolit.strategies.estimator.two_point import TwoPoint
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.reading import Reading


class SecondDifference(TwoPoint):
    """`TwoPoint`, and beside each slope ``(L+ + L- - 2 L0) / (2 eps**2)`` (HiZOO, arXiv 2402.15173,
    Algorithm 1).

    The optimizer `HiZOO` takes both. L0 is the loss at the stored weights, one read for all
    directions of a batch, so that Q directions cost 2 Q + 1 reads. The second number is half the
    curvature of the loss along the direction. It is a difference of close numbers divided by
    ``eps**2``, so it needs exact losses: at ``eps`` 1e-3 an error of 1e-3 in a loss, as bfloat16
    makes them, is one of 1000 in it. Take float32, or a larger eps.

    Args:
        paired: see `TwoPoint`.

    Example:
        ::

            estimator: SecondDifference
            optimizer: HiZOO
    """

    measures: ClassVar[int] = 2
    gives: ClassVar[str] = "slopes and curvatures"
    fitting: ClassVar[str] = "HiZOO"
    compares: bool = False  # L0 is read beside a pair, not together with it

    def check_parts(self, perturber: Perturber, quantizer: Quantizer | None) -> None:
        name, direction = type(perturber).__name__, perturber.direction()
        if not perturber.single_coordinates:
            raise UserError(
                "estimator SecondDifference measures the curvature along each coordinate, which "
                f"directions of low rank do not have, got perturber {name}; use TwoPoint with it"
            )
        if direction.distribution != "gaussian":
            raise UserError(
                "estimator SecondDifference tells coordinates apart by how far a direction moves "
                f"each, got perturber {name} with distribution={direction.distribution}, which "
                "moves all alike; set distribution: gaussian, or use TwoPoint"
            )
        if quantizer is not None and quantizer.integer_products and not perturber.moves_scales:
            raise UserError(
                "estimator SecondDifference divides each coordinate by the root of its curvature, "
                f"which takes codes off their grid, got quantizer {type(quantizer).__name__} with "
                "activations=int8; set activations: none, or use TwoPoint"
            )

    def estimate(
        self, losses: Losses, reading: Reading, keys: list[int], eps: float, pairable: bool
    ) -> Estimate:
        rest = losses(1)[0].double()
        pairs = [self.both(losses, reading, key, eps, pairable) for key in keys]
        plus, minus = torch.stack(pairs).double().unbind(1)
        slopes = (plus - minus) / (2.0 * eps)
        curvatures = (plus + minus - 2.0 * rest) / (2.0 * eps**2)
        return Estimate(torch.cat((slopes, curvatures)).float(), rest.float())
