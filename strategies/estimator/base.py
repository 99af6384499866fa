"""How losses become projected gradients."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from zolit.tensors.reading import Reading

Losses = Callable[[int], Tensor]
"""``losses(copies)``: loss of each copy of the batch, ``[copies]`` float32, by one forward."""


@dataclass(frozen=True)
class Estimate:
    """Projected gradients of some directions.

    Attributes:
        values: ``[Q]`` float32, loss per unit of the coordinate; NaN or infinite where a loss was.
        loss: mean loss over the reads, a float32 scalar tensor.
    """

    values: Tensor
    loss: Tensor


class Estimator(ABC):
    """Asks for losses with the weights read perturbed, and turns them into projected gradients."""

    @abstractmethod
    def estimate(
        self, losses: Losses, reading: Reading, keys: list[int], eps: float, pairable: bool
    ) -> Estimate:
        """Estimate the derivative of the loss along some directions.

        Args:
            losses: the objective on the current batch.
            reading: shared state of the weights; at rest before and after.
            keys: 64-bit key of each direction.
            eps: step along a direction, in units of the coordinate.
            pairable: whether the model can read two versions of its weights in one pass.
        """
