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
    """An objective on one batch; each call is one forward through the weights as they read now.

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
        """What one forward says of the batch, to be shown to `compare` with other reads."""
        return self.objective.read(self.model, self.batch)

    def compare(self, reads: Sequence[Tensor]) -> Tensor:
        """Loss of each of some `read` of this batch, ``[len(reads)]`` float32."""
        return self.objective.compare(reads, self.batch)


@dataclass(frozen=True)
class Estimate:
    """What one batch says of some directions.

    Attributes:
        values: ``[Q]`` float32, loss per unit of the coordinate; NaN or infinite where a loss was.
        loss: mean loss over the reads, or that of the weights as stored where they are read; a
            float32 scalar tensor.

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
        needs: what the objective must be able to do besides its loss, such as `Scored`; nothing by
            default.
        compares: whether the objective sees both reads of a direction together, by one call of the
            losses with two copies or by their `compare`; see `Objective.compares`.
        default_lr: learning rate to start with, whatever moves; None leaves it to the perturber.

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
        """Refuse an objective that this estimator cannot ask.

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
        """Projected gradients of a step from the estimates of its micro-batches, along the same
        directions; by default their mean.

        Returns:
            ``[Q]`` float32; NaN or infinite where a query is to be skipped.
        """
        return torch.stack([estimate.values for estimate in estimates]).mean(dim=0)

    def finish(self, values: Tensor) -> Tensor:
        """Last word on the projected gradients of a step, once a step; as they are by default.

        The journal writes down ``values``, and a replay calls this again: what is returned and
        remembered must follow from them, the arguments and the state alone.

        Args:
            values: ``[Q]`` float32 on the CPU, what `combine` made of the step's micro-batches;
                all finite, as other queries are left out before. May be empty.

        Returns:
            ``[Q]`` float32, finite.
        """
        return values

    def metrics(self) -> dict[str, float]:
        """What to log at each step, by name."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """What `finish` remembers between steps, as plain numbers and tensors; saved with a run."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up what `state_dict` gave.

        Raises:
            UserError: if the state is of another estimator.
        """
        if state:
            raise UserError(
                f"ckpt_path: the checkpoint holds the state of another estimator than "
                f"{type(self).__name__}; use the config.yaml that stands beside the checkpoint"
            )
