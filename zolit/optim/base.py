"""What is asked of an optimizer that steps on a `ProjectedGradient`, and what is refused of one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor

from zolit.arguments import positive
from zolit.errors import UserError
from zolit.strategies import Estimator, Perturber, Quantizer


def check_rate(lr: float | None) -> None:
    """Refuse a learning rate that is no positive number; None leaves it open.

    Raises:
        UserError: naming it.
    """
    if lr is not None:
        positive("lr", lr, "leave it out for the perturber's own")


def open_rate_error(name: str, counts: str, lr: float | None) -> UserError:
    """The refusal of an optimizer without a learning rate, for which there is no default.

    Args:
        name: of its class.
        counts: what its rate counts.
        lr: a rate to try; None before the model is known.
    """
    advice = "a hundredth of perturber.eps" if lr is None else f"{lr:g}"
    return UserError(
        f"optimizer: {name} needs an lr, got none; it is {counts}: try {advice}, or ZOSGD, which "
        "can do without"
    )


class Gives(Protocol):
    """What an optimizer has to know of an estimator, see `zolit.strategies.Estimator`."""

    gives: ClassVar[str]
    fitting: ClassVar[str]


def check_fitting(optimizer: object, estimator: Gives) -> None:
    """Refuse an optimizer that takes other numbers than an estimator gives.

    Args:
        optimizer: says what it ``takes``, and the ``fitting`` estimator; slopes if it says nothing.
        estimator: says what it ``gives``.

    Raises:
        UserError: naming both and what to use instead.
    """
    takes = getattr(optimizer, "takes", "slopes")
    if takes == estimator.gives:
        return
    mine, theirs = type(optimizer).__name__, type(estimator).__name__
    raise UserError(
        f"model.optimizer: {mine} takes {takes}, got estimator {theirs}, which gives "
        f"{estimator.gives}; use estimator {getattr(optimizer, 'fitting', 'TwoPoint')} with it, or "
        f"optimizer {estimator.fitting} with {theirs}"
    )


@runtime_checkable
class OpenRate(Protocol):
    """An optimizer without a learning rate of its own: one is chosen for the weights it moves.

    Example:
        >>> import torch
        >>> from zolit import ZOSGD
        >>> optimizer = ZOSGD([torch.zeros(1)])
        >>> isinstance(optimizer, OpenRate) and optimizer.settle(0.1)
        True
    """

    def settle(self, lr: float) -> bool:
        """Choose a rate for each parameter group that has none; returns whether a group had none.

        Args:
            lr: a good one for plain steps along the directions.
        """


@runtime_checkable
class StepsAlongDirections(Protocol):
    """An optimizer whose step is the sum of the directions, each times ``lr`` and its own factor.

    The length of a step is then known from the factors, without a pass over the weights.

    Example:
        >>> import torch
        >>> from zolit import ZOSGD
        >>> isinstance(ZOSGD([torch.zeros(1)]), StepsAlongDirections)
        True
    """

    def direction_factors(self, values: Tensor) -> Tensor:
        """How far the weights go along each direction, before the learning rate; see `ZOSGD`."""


@runtime_checkable
class Particular(Protocol):
    """An optimizer that does not make every kind of step.

    Example:
        >>> import torch
        >>> from zolit import FZOO
        >>> isinstance(FZOO([torch.zeros(1)], lr=0.1), Particular)
        True
    """

    def check(self, parts: "StepParts") -> None:
        """Refuse a run that cannot be made; called before its model is loaded and after.

        Raises:
            UserError: naming what does not fit.
        """


@dataclass(frozen=True)
class StepParts:
    """What a step of a run is made of besides its optimizer.

    Attributes:
        queries: directions of its first step.
        micro_batches: batches that a step averages its losses over.
        estimator: of its slopes.
        quantizer: of its weights.
        perturber: of what moves.

    Example:
        >>> from zolit import Int8, ScalePerturber, TwoPoint
        >>> StepParts(8, 1, TwoPoint(), Int8(), ScalePerturber()).queries
        8
    """

    queries: int
    micro_batches: int
    estimator: Estimator
    quantizer: Quantizer
    perturber: Perturber


@runtime_checkable
class Choosing(Protocol):
    """An optimizer that reads the losses where a step would lead before it is made.

    Example:
        >>> import torch
        >>> from zolit import ZOConservative
        >>> isinstance(ZOConservative([torch.zeros(1)], lr=0.1), Choosing)
        True
    """

    def choose(self, values: Tensor, losses_at: Callable[[Sequence[float]], Tensor]) -> Tensor:
        """The values of the step that is made, or none; see `ZOConservative`."""
