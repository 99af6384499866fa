"""How losses become projected gradients."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.objectives.base import Objective
from zolit.options import OnResume
from zolit.tensors.reading import Reading


@dataclass(frozen=True)
class Losses:
    """An objective on one batch. Each call is one forward pass, by the weights as they read now.

    Attributes:
        objective: what is minimized.
        model: the prepared model.
        batch: what the objective has drawn (`Objective.draw`).

    Example:
        >>> from zolit import LossFunction
        >>> squares = LossFunction(lambda model, batch: model(batch).square().sum(1))
        >>> Losses(squares, nn.Identity(), torch.ones(4, 2))(copies=1)
        tensor([2.])
    """

    objective: Objective
    model: nn.Module
    batch: Any

    def __call__(self, copies: int) -> Tensor:
        """Loss of each copy of the batch, ``[copies]`` float32."""
        return self.objective.losses(self.model, self.batch, copies)

    def read(self) -> Tensor:
        """The result of one forward pass, for `compare` with the results of other reads."""
        return self.objective.read(self.model, self.batch)

    def compare(self, reads: Sequence[Tensor]) -> Tensor:
        """Losses of several results of `read`, ``[len(reads)]`` float32."""
        return self.objective.compare(reads, self.batch)


@dataclass(frozen=True)
class Estimate:
    """The slope of the loss along each direction, from one batch.

    Attributes:
        values: ``[Q]`` float32, loss per unit of the coordinate. NaN or infinite where a loss was.
        loss: float32 scalar tensor: the loss of the weights as stored, if the estimator reads them;
            else the mean loss over the perturbed reads.

    Example:
        >>> Estimate(values=torch.tensor([0.5, -1.0]), loss=torch.tensor(2.0)).values
        tensor([ 0.5000, -1.0000])
    """

    values: Tensor
    loss: Tensor


class Estimator(ABC):
    """Asks for losses with the weights read perturbed, and turns them into projected gradients.

    Attributes:
        paired: whether both signs of a direction are read in one pass, if the model can.
        needs: a class or protocol that the objective must satisfy, such as `Scored`; by default any
            objective does.
        compares: whether the estimator shows the objective both reads of a direction together: by
            one call of the losses with two copies, or by `Losses.compare`. Objectives that need
            this say so by `Objective.compares`.
        default_lr: learning rate to start with, for all perturbers; None leaves it to the
            perturber.

    Example:
        >>> from zolit import TwoPoint
        >>> class Bounded(TwoPoint):
        ...     def finish(self, values):
        ...         return values.clamp(-1.0, 1.0)
        >>> Bounded().finish(torch.tensor([0.5, 7.0]))
        tensor([0.5000, 1.0000])
    """

    needs: ClassVar[type] = Objective
    on_resume: ClassVar[Mapping[str, OnResume]] = {"paired": OnResume.FREE}
    default_lr: ClassVar[float | None] = None
    paired: bool = False
    compares: bool = False

    def check(self, objective: Objective) -> None:
        """Refuse an objective that lacks what this estimator needs.

        Raises:
            UserError: naming both and what to use instead.
        """
        name = type(objective).__name__
        if not isinstance(objective, self.needs):
            raise UserError(
                f"estimator: {type(self).__name__} needs an objective with what "
                f"{self.needs.__name__} has, got {name}; use OptionScoring, or TwoPoint with it"
            )
        if objective.compares and not self.compares:
            raise UserError(
                f"objective: {name} with these options compares the reads of a direction, which "
                f"{type(self).__name__} does not show it together; use TwoPoint, or set "
                "OptionScoring's shared: 1"
            )

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

    def combine(self, estimates: Sequence[Estimate]) -> Tensor:
        """Join the estimates of a step's micro-batches, which have the same directions; by default
        their mean.

        Returns:
            ``[Q]`` float32; NaN or infinite where a query is to be skipped.
        """
        return torch.stack([estimate.values for estimate in estimates]).mean(dim=0)

    def finish(self, values: Tensor) -> Tensor:
        """Change the projected gradients of a step before the optimizer takes them, once a step.

        By default they stay as they are. The journal records ``values``, and a replay calls this
        method again. So the result and the new state must follow from ``values``, the arguments of
        the estimator and its state, and from nothing else.

        Args:
            values: ``[Q]`` float32 on the CPU, the result of `combine` without the queries that are
                not finite. May be empty.

        Returns:
            ``[Q]`` float32, finite.
        """
        return values

    def metrics(self) -> dict[str, float]:
        """Figures to log at each step, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The state that `finish` keeps between steps, as plain numbers and tensors.

        It is saved with a run.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Raises:
            UserError: if the state is of another estimator.
        """
        if state:
            raise UserError(
                f"ckpt_path: the checkpoint holds the state of another estimator than "
                f"{type(self).__name__}; use the config.yaml that stands beside the checkpoint"
            )
