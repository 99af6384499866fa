"""What is asked of an optimizer that steps on a `ProjectedGradient`, and what is refused of one."""

import math
from typing import Protocol, runtime_checkable

from torch import Tensor

from zolit.errors import UserError


def check_rate(lr: float | None) -> None:
    """Refuse a learning rate that is no positive number; None leaves it open.

    Raises:
        UserError: naming it.
    """
    if lr is not None and not (math.isfinite(lr) and lr > 0):
        raise UserError(
            f"lr must be a positive number, got {lr}; leave it out for the perturber's own"
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
        """Set ``lr`` for each parameter group that has none; returns whether a group had none."""


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
        """Step length along each direction, before the learning rate; see `ZOSGD`."""
