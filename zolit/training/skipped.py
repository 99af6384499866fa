"""Queries and steps whose numbers were NaN or infinite: they are left out, and counted."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from zolit.errors import UserError


class Skipped:
    """Counts what a run leaves out, and stops one of which nothing is left.

    Args:
        most: left out in a row, at which the run stops.
        unit: what is counted, ``queries`` or ``steps``; checkpoints name the count by it.
        what: was NaN or infinite, for the message.
        instead: the next step of the user.

    Attributes:
        count: left out since the run began.
        in_row: left out since the last one that was not.

    Example:
        >>> skipped = Skipped(3, "queries", "the loss", "lower lr")
        >>> skipped.finite(torch.tensor([0.5, float("nan")]), step=0)
        tensor([ True, False])
        >>> skipped.count, skipped.in_row
        (1, 1)
    """

    def __init__(self, most: int, unit: str, what: str, instead: str) -> None:
        self.most, self.unit = most, unit
        self._what, self._instead = what, instead
        self.count = 0
        self.in_row = 0

    def finite(self, values: Tensor, step: int) -> Tensor:
        """Which of some values count, ``[n]`` bool; each of the others is left out.

        Args:
            values: ``[n]``, one for each query or step.
            step: the number of the step, for the message.

        Raises:
            UserError: if ``most`` in a row were left out.
        """
        finite = torch.isfinite(values)
        self.note(finite.tolist(), step)
        return finite

    def note(self, sound: Iterable[bool], step: int) -> None:
        """Count, of queries or steps, those that are left out as they are not sound; see `finite`.

        Raises:
            UserError: if ``most`` in a row were left out.
        """
        for good in sound:
            self.in_row = 0 if good else self.in_row + 1
            self.count += not good
        if self.in_row >= self.most:
            raise UserError(
                f"{self._what} was NaN or infinite for {self.in_row} {self.unit} in a row at step "
                f"{step}; the weights keep their last good state: {self._instead}"
            )

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Write both counts to a checkpoint."""
        checkpoint[self._key] = self.count
        checkpoint["zolit_skipped_in_row"] = self.in_row

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Take both counts from a checkpoint; that of another kind of run has none."""
        self.count = checkpoint.get(self._key, 0)
        self.in_row = checkpoint.get("zolit_skipped_in_row", 0) if self._key in checkpoint else 0

    @property
    def _key(self) -> str:
        return f"zolit_skipped_{self.unit}"


def skipped_queries(most: int) -> Skipped:
    """For steps along directions."""
    return Skipped(most, "queries", "the loss", "lower lr or eps, or use dtype float32")


def skipped_steps(most: int) -> Skipped:
    """For steps along gradients."""
    instead = "lower lr, set gradient_clip, or use dtype float32"
    return Skipped(most, "steps", "loss or gradient", instead)
