"""What is minimized."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn


class Objective(ABC):
    """A scalar loss of a model on a batch, computed by forward passes only.

    An objective knows nothing of perturbations. An estimator that reads several versions of
    the weights in one forward asks for that many ``copies`` of the batch.

    Attributes:
        needs_pairs: whether the loss of one copy depends on the other, so that both signs of a
            direction have to be read in one pass.
    """

    needs_pairs: bool = False

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, copies: int = 1) -> Tensor:
        """Mean loss of each copy of the batch.

        The rows are repeated ``copies`` times along the batch dimension, copy after copy
        (all rows of copy 0, then all rows of copy 1), and run in one forward.

        Returns:
            ``[copies]`` float32.
        """

    @abstractmethod
    def scores(self, model: nn.Module, batch: Any) -> Tensor:
        """Score of each candidate answer, ``[B, C]`` float32; the highest is the prediction."""

    @abstractmethod
    def targets(self, batch: Any) -> Tensor:
        """Index of the right answer, ``[B]`` int64."""
