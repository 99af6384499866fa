"""Steps that wait for further micro-batches."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

from zolit.checkpoints.content import require
from zolit.strategies import Estimate


@dataclass
class PendingStep:
    """A step along gradients, to which some micro-batches have added their gradients.

    Attributes:
        started: when it began, by ``time.perf_counter``.
        losses: of its micro-batches so far, float32 scalars.

    Example:
        >>> PendingStep.load({}, []) is None
        True
    """

    started: float
    losses: list[Tensor] = field(default_factory=list)

    def save(self, checkpoint: dict[str, Any], weights: Sequence[Tensor]) -> None:
        """Write the losses, and the gradients of the weights, to a checkpoint."""
        gradients = [one.grad for one in weights]
        checkpoint["zolit_pending"] = {"losses": self.losses, "gradients": gradients}

    @classmethod
    def load(cls, checkpoint: Mapping[str, Any], weights: Sequence[Tensor]) -> Self | None:
        """The step that waited when a checkpoint was written; its gradients go to the weights.

        Returns:
            None if there was none.

        Raises:
            UserError: if what the checkpoint holds is no such step.
        """
        if (kept := checkpoint.get("zolit_pending")) is None:
            return None
        losses, gradients = kept.get("losses"), kept.get("gradients")
        sound = isinstance(losses, list) and all(isinstance(one, Tensor) for one in losses)
        require(sound and _fit(gradients, weights), None, "zolit_pending")
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = None if gradient is None else gradient.to(weight.device, copy=True)
        device = weights[0].device
        return cls(time.perf_counter(), [one.to(device) for one in losses])


@dataclass
class PendingEstimates:
    """A step along directions: these, and the estimates of its micro-batches so far.

    Attributes:
        keys: 64-bit key of each direction.
        started: when it began, by ``time.perf_counter``.
        estimates: of its micro-batches so far.
    """

    keys: list[int]
    started: float
    estimates: list[Estimate] = field(default_factory=list)


def _fit(gradients: Any, weights: Sequence[Tensor]) -> bool:
    """Whether a list holds a gradient, or None, for each weight."""
    if not isinstance(gradients, list) or len(gradients) != len(weights):
        return False
    return all(
        one is None or (isinstance(one, Tensor) and (one.shape, one.dtype) == (w.shape, w.dtype))
        for one, w in zip(gradients, weights, strict=True)
    )
