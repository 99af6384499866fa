"""The central difference along each direction."""

import torch
from torch import Tensor

from zolit.strategies.estimator.base import Estimate, Estimator, Losses
from zolit.tensors.reading import Reading


class TwoPoint(Estimator):
    """``(L(theta + eps z) - L(theta - eps z)) / (2 eps)`` (SPSA, Spall 1992; MeZO Definition 1).

    Args:
        paired: read both signs in one pass over a doubled batch, so that each weight is decoded
            once and its noise is made once. Some tuned weights cannot be read in this way: norms,
            position embeddings, and layers whose input is not the batch's rows in their order. A
            model that tunes these takes two passes. False always takes two passes, which halves the
            memory of the activations.

    Example:
        ::

            estimator:
              class_path: TwoPoint
              init_args:
                paired: false # half the activations, twice the decoding
    """

    compares = True

    def __init__(self, paired: bool = True) -> None:
        self.paired = paired

    def estimate(
        self, losses: Losses, reading: Reading, keys: list[int], eps: float, pairable: bool
    ) -> Estimate:
        pairs = [self.both(losses, reading, key, eps, pairable) for key in keys]
        found = torch.stack(pairs).float()
        return Estimate((found[:, 0] - found[:, 1]) / (2.0 * eps), found.mean())

    def both(
        self, losses: Losses, reading: Reading, key: int, eps: float, pairable: bool
    ) -> Tensor:
        """The losses at plus and at minus a direction, ``[2]`` float32; see `estimate`."""
        if self.paired and pairable:
            with reading.perturbed(key, eps, copies=2):
                return losses(2)
        reads = []
        for sign in (1.0, -1.0):
            with reading.perturbed(key, sign * eps, copies=1):
                reads.append(losses.read())
        return losses.compare(reads)
