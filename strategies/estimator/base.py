"""The base class of estimators, which turn losses into projected gradients."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from zolit.arguments import Checked
from zolit.errors import UserError
from zolit.gradient import Passes, ProjectedGradient
from zolit.objectives.base import Objective
from zolit.options import OnResume
from zolit.strategies.perturber.base import Perturber
from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight


@dataclass(frozen=True)
class Losses:
    """An objective on one batch. Each call is a forward pass, with the weights as they read now.

    Attributes:
        objective: what is minimized.
        model: the prepared model.
        batch: the batch, as `Objective.draw` returned it.
        passes: counts the forward passes, two of a pass that reads both signs.

    Example:
        >>> from zolit import LossFunction
        >>> squares = LossFunction(lambda model, batch: model(batch).square().sum(1))
        >>> Losses(squares, nn.Identity(), torch.ones(4, 2))(copies=1)
        tensor([2.])
    """

    objective: Objective
    model: nn.Module
    batch: Any
    passes: Passes = field(default_factory=Passes, compare=False, repr=False)

    def __call__(self, copies: int) -> Tensor:
        """Loss of each copy of the batch, ``[copies]`` float32."""
        self.passes.forwards += copies
        return self.objective.losses(self.model, self.batch, copies)

    def read(self) -> Tensor:
        """The result of one forward pass, which `compare` takes with the results of others."""
        self.passes.forwards += 1
        return self.objective.read(self.model, self.batch)

    def scores(self) -> Tensor:
        """Score of each candidate answer by one forward pass, ``[B, C]`` float32.

        For estimators whose ``needs`` is `Scored`.
        """
        self.passes.forwards += 1
        objective: Any = self.objective
        found: Tensor = objective.scores(self.model, self.batch)
        return found

    def compare(self, reads: Sequence[Tensor]) -> Tensor:
        """Losses of several results of `read`, ``[len(reads)]`` float32."""
        return self.objective.compare(reads, self.batch)


@dataclass(frozen=True)
class Estimate:
    """The slope of the loss along each direction, from one batch.

    Attributes:
        values: ``[Q]`` float32, change of the loss per unit of the coordinate. NaN or infinite
            where a loss was. Of an estimator with several ``measures`` ``[measures * Q]``: these
            first, then what else it gives, each for all directions in turn.
        loss: float32 scalar tensor: the loss at the stored weights where the estimator reads these,
            else the mean loss of the perturbed reads.

    Example:
        >>> Estimate(values=torch.tensor([0.5, -1.0]), loss=torch.tensor(2.0)).values
        tensor([ 0.5000, -1.0000])
    """

    values: Tensor
    loss: Tensor


class Estimator(Checked, ABC):
    """Asks for losses at perturbed weights and turns them into projected gradients.

    Attributes:
        paired: whether to read both signs of a direction in one pass, where the model allows it.
        needs: a class or protocol that the objective must satisfy, such as `Scored`; by default any
            objective does.
        compares: whether the estimator gives the objective both reads of a direction together, by
            one call of the losses with two copies or by `Losses.compare`. Objectives that need this
            declare it by `Objective.compares`.
        one_sided: whether differences are taken from the loss at the stored weights, not from the
            other side of the direction.
        measures: how many numbers it gives for each direction.
        by_example: whether each row of a batch reads along a direction of its own.
        scale_free: whether its values do not count losses, so that no learning rate fits by
            default.
        gives: what these are; an optimizer says in the same words what it ``takes``.
        fitting: the optimizer that takes these, for messages.
        default_lr: the learning rate to start with, whatever the perturber; None leaves it to the
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
    one_sided: ClassVar[bool] = False
    measures: ClassVar[int] = 1
    by_example: ClassVar[bool] = False
    scale_free: bool = False
    gives: ClassVar[str] = "slopes"
    fitting: ClassVar[str] = "ZOSGD"
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

    def check_parts(self, perturber: Perturber, quantizer: Quantizer | None) -> None:
        """Refuse directions from which this estimator learns nothing; most refuse none.

        Args:
            perturber: that names the directions.
            quantizer: of the weights that move; None where only an adapter moves.

        Raises:
            UserError: naming both parts and what to use instead.
        """

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
        """Join the estimates of a step's micro-batches, by default to their mean.

        Args:
            estimates: along the same directions, one for each micro-batch.

        Returns:
            ``[Q]`` float32; NaN or infinite where a query is to be skipped.
        """
        return torch.stack([estimate.values for estimate in estimates]).mean(dim=0)

    def directions(self, keys: list[int]) -> list[int]:
        """The directions of the next step, by default those that were drawn for it.

        Args:
            keys: 64-bit key of each direction that was drawn.
        """
        return keys

    def batches(self, micro_batches: int) -> int:
        """Batches that the next step takes, by default as many as any.

        Args:
            micro_batches: of a step, as the module has it.
        """
        return micro_batches

    def joined_keys(self, estimates: Sequence[Estimate], keys: list[int]) -> list[int]:
        """The 64-bit keys of the directions whose slopes `combine` joins, ``[Q]``.

        Args:
            estimates: of the step's micro-batches.
            keys: that `estimate` was given; by default these.
        """
        return keys

    def finish(self, values: Tensor) -> Tensor:
        """Change the projected gradients of a step before the optimizer gets them.

        Called once a step; by default they stay as they are. The journal records ``values``, and a
        replay calls this method again. So its result and the new state of the estimator must depend
        on ``values``, the arguments of the estimator and its state, and on nothing else.

        Args:
            values: ``[Q]`` float32 on the CPU, the result of `combine` without the queries that are
                not finite; ``[measures * Q]`` as in `Estimate`. May be empty.

        Returns:
            As many float32, finite.
        """
        return values

    def before_step(self, gradient: ProjectedGradient, weights: Sequence[PerturbedWeight]) -> None:
        """Take note of a step, which the optimizer makes next; by default of nothing.

        Called after `finish`, in a run and in a replay alike.

        Args:
            gradient: of the step; empty where nothing moves.
            weights: that move, as they are before the step.
        """

    def tensors(self) -> list[Tensor]:
        """What is kept of the size of weights, for an estimate of the memory."""
        return []

    def metrics(self) -> dict[str, float]:
        """Numbers to log at each step, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """The state that `finish` keeps between steps, as plain numbers and tensors.

        It is saved in checkpoints.
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
