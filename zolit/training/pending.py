"""A first-order step that waits for further batches, and steps that could not be made."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from torch import Tensor

from zolit.checkpoints.content import require
from zolit.errors import UserError


@dataclass
class PendingStep:
    """A step to which some micro-batches have added their gradients.

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


class SkippedSteps:
    """Counts the steps that moved nothing, and stops a run that makes no others any more.

    Args:
        most: steps skipped in a row that stop the run.

    Attributes:
        count: skipped since the run began.
        in_row: skipped since the last one that was not.

    Example:
        >>> skipped = SkippedSteps(most=2)
        >>> skipped.note(False, step=0)
        >>> skipped.count, skipped.in_row
        (1, 1)
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = self.in_row = 0

    def note(self, sound: bool, step: int) -> None:
        """Count a step.

        Args:
            sound: whether its loss and its gradient are finite.
            step: its number, for the message.

        Raises:
            UserError: if ``most`` in a row were not.
        """
        self.in_row = 0 if sound else self.in_row + 1
        self.count += not sound
        if self.in_row >= self.most:
            raise UserError(
                f"loss or gradient was NaN or infinite in {self.in_row} steps in a row at step "
                f"{step}; the weights keep their last good state: lower lr, set gradient_clip, or "
                "use dtype float32"
            )

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Write both counts to a checkpoint."""
        checkpoint["zolit_skipped_steps"] = self.count
        checkpoint["zolit_skipped_in_row"] = self.in_row

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Take both counts from a checkpoint; of another kind of run there are none."""
        self.count = checkpoint.get("zolit_skipped_steps", 0)
        self.in_row = checkpoint.get("zolit_skipped_in_row", 0) if self.count else 0


def _fit(gradients: Any, weights: Sequence[Tensor]) -> bool:
    """Whether a list holds a gradient, or None, for each weight."""
    if not isinstance(gradients, list) or len(gradients) != len(weights):
        return False
    return all(
        one is None or (isinstance(one, Tensor) and (one.shape, one.dtype) == (w.shape, w.dtype))
        for one, w in zip(gradients, weights, strict=True)
    )
