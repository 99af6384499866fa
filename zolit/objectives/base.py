"""What is minimized."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from zolit.arguments import Checked


class Objective(Checked, ABC):
    """A scalar loss of a model on a batch, computed by forward passes only.

    An objective knows nothing of perturbations. An estimator that reads several versions of
    the weights in one forward asks for that many ``copies`` of the batch. An objective does not
    report figures either: an `Evaluation` does.

    Attributes:
        compares: whether the loss needs both reads of a direction at once, such as that of
            `OptionScoring` with ``shared`` below 1.

    Example:
        >>> class SquaredError(Objective):
        ...     def losses(self, model, batch, copies=1):
        ...         x, y = (part.repeat(copies, 1) for part in batch)
        ...         return ((model(x) - y) ** 2).view(copies, -1).mean(1)
        >>> SquaredError().losses(nn.Identity(), (torch.ones(3, 1), torch.zeros(3, 1)), copies=2)
        tensor([1., 1.])
    """

    compares: bool = False

    def try_out(self, model: nn.Module) -> None:
        """Find out, once and before the first step, how a prepared model has to be called.

        Args:
            model: loaded or on the meta device; its blocks are not compiled.

        Raises:
            UserError: if the model cannot be called by this objective.
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
            The batch that `losses`, `read` and `compare` take; by default the same batch.
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
        """The result of one forward, for `compare`; by default the loss, ``[1]``."""
        return self.losses(model, batch)

    def compare(self, reads: Sequence[Tensor], batch: Any) -> Tensor:
        """Mean loss of each of several reads of one batch, which were made one by one.

        A class that overrides this should compute `losses` by it, so that a subclass can change the
        loss in one place.

        Returns:
            ``[len(reads)]`` float32, as `losses` with as many copies would give.
        """
        return torch.cat(list(reads))

    def rehearsal(self) -> Callable[[nn.Module], Any] | None:
        """A function that runs a model once on a few tokens, as `losses` does.

        It returns the tensors from which the loss is computed. Weights that they do not depend on
        are not tuned (`zolit.models.trials.probe`). None, the default: the loss may depend on all
        weights. A subclass whose batches are no tokens, such as images, returns a function of its
        own or None.
        """
        return None


@runtime_checkable
class Scored(Protocol):
    """An objective whose loss comes from a score of each candidate answer.

    Parts that need the scores declare ``needs = Scored``: `GaussNewton` and
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
