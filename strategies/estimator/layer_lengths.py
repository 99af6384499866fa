"""The slope along directions, and every now and then along the lengths of layers (DiZO)."""

from typing import ClassVar

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.strategies.estimator.base import Estimate, Losses
from zolit.strategies.estimator.two_point import TwoPoint
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.lengths import Lengths
from zolit.tensors.reading import Reading


class LayerLengths(TwoPoint):
    """`TwoPoint`; where the optimizer `DiZO` learns lengths, the same along ratios of layers.

    A step that learns reads each layer at ``theta_0 + (r +- eps n) (theta - theta_0)`` with n one
    normal number for each layer, and gives ``(L+ - L-) / (2 eps)`` (DiZO, arXiv 2502.03304). It
    costs the forwards of any other step.

    Args:
        paired: see `TwoPoint`.

    Example:
        ::

            estimator: LayerLengths
            optimizer: DiZO
    """

    gives: ClassVar[str] = "slopes, also of the lengths of layers"
    fitting: ClassVar[str] = "DiZO"

    def check_parts(self, perturber: Perturber, quantizer: Quantizer | None) -> None:
        if quantizer is not None and quantizer.integer_products:
            raise UserError(
                "estimator LayerLengths reads weights between those of the start and those of now, "
                f"which are no codes, got quantizer {type(quantizer).__name__} with "
                "activations=int8; set activations: none, or use TwoPoint"
            )

    def estimate(
        self, losses: Losses, reading: Reading, keys: list[int], eps: float, pairable: bool
    ) -> Estimate:
        lengths = reading.lengths
        if lengths is None or not lengths.learning:
            return super().estimate(losses, reading, keys, eps, pairable)
        pairs = [self._at_ratios(losses, reading, lengths, key, pairable) for key in keys]
        found = torch.stack(pairs).float()
        return Estimate((found[:, 0] - found[:, 1]) / (2.0 * lengths.eps), found.mean())

    def _at_ratios(
        self, losses: Losses, reading: Reading, lengths: Lengths, key: int, pairable: bool
    ) -> Tensor:
        """The losses at plus and at minus a direction of ratios, ``[2]`` float32."""
        ratios = lengths.around(key)
        if self.paired and pairable:
            with reading.stretched(ratios):
                return losses(2)
        reads = []
        for sign in range(2):
            with reading.stretched({index: (both[sign],) for index, both in ratios.items()}):
                reads.append(losses.read())
        return losses.compare(reads)
