"""What is minimized."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn


class Objective(ABC):
    """A scalar loss of a model on a batch, computed by forward passes only.

    An objective knows nothing of perturbations. An estimator that reads several versions of
    the weights in one forward asks for that many ``copies`` of the batch. What is reported of a
    model is not its business either: that is an `Evaluation`.

    Attributes:
        compares: whether the loss of one read of the weights depends on what it is compared with,
            so that an estimator has to show both reads of a direction together.

    Example:
        >>> class SquaredError(Objective):
        ...     def losses(self, model, batch, copies=1):
        ...         x, y = (part.repeat(copies, 1) for part in batch)
        ...         return ((model(x) - y) ** 2).view(copies, -1).mean(1)
        >>> SquaredError().losses(nn.Identity(), (torch.ones(3, 1), torch.zeros(3, 1)), copies=2)
        tensor([1., 1.])
    """

    compares: bool = False

    def try_out(self, model: nn.Module) -> None:  # noqa: B027  (optional)
        """Find out once how a prepared model has to be called, before it is.

        Args:
            model: loaded or on the meta device; its blocks are not compiled.

        Raises:
            UserError: if it cannot be.
        """

    def draw(self, batch: Any, key: int) -> Any:
        """The batch with the random numbers that the loss needs, such as time steps and noise.

        Called once for each batch of a step, so that all reads and all queries see the same
        numbers. They must follow from ``key`` and nothing else: torch's global generator is left
        alone, and a resumed run draws the same.

        Args:
            batch: of the data module.
            key: 64 bits, of the step and the batch; `zolit.noise.fold` makes further ones.

        Returns:
            What `losses`, `read` and `compare` take; by default the batch itself.
        """
        return batch

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, copies: int = 1) -> Tensor:
        """Mean loss of each copy of the batch.

        The rows are repeated ``copies`` times along the batch dimension, copy after copy
        (all rows of copy 0, then all rows of copy 1), and run in one forward.

        Returns:
            ``[copies]`` float32.
        """

    def read(self, model: nn.Module, batch: Any) -> Tensor:
        """What one forward says of the batch, for `compare`; by default its loss, ``[1]``."""
        return self.losses(model, batch)

    def compare(self, reads: Sequence[Tensor], batch: Any) -> Tensor:
        """Mean loss of each of some reads of one batch that were made one by one.

        A class with its own makes `losses` of it, so that a subclass changes the loss here.

        Returns:
            ``[len(reads)]`` float32, as `losses` with as many copies would give.
        """
        return torch.cat(list(reads))

    def rehearsal(self) -> Callable[[nn.Module], Any] | None:
        """Runs a model once on a few tokens, as `losses` does; returns what the loss is made of.

        Weights that this does not depend on are not tuned (`zolit.models.trials.probe`). None, by
        default: the loss may depend on any. A subclass that shows the model something else, such
        as images, gives its own or None.
        """
        return None


@runtime_checkable
class Scored(Protocol):
    """An objective whose loss comes from a score of each candidate answer.

    Whatever needs more than the loss says so (``needs = Scored``): `GaussNewton`,
    `zolit.evaluations.Classification`.

    Example:
        >>> from zolit import LossFunction, OptionScoring
        >>> isinstance(OptionScoring(), Scored), isinstance(LossFunction(print), Scored)
        (True, False)
    """

    def scores(self, model: nn.Module, batch: Any) -> Tensor:
        """Score of each candidate answer, ``[B, C]`` float32; the highest is the prediction."""

    def targets(self, batch: Any) -> Tensor:
        """Index of the right answer, ``[B]`` int64."""
