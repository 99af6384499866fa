"""Queries whose loss was NaN or infinite: they are left out of their step and counted."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from zolit.errors import UserError


class SkippedQueries:
    """Tells the queries of a step that count, and stops a run of which none does any more.

    Args:
        most: queries skipped in a row that stop the run.

    Attributes:
        count: skipped since the run began.
        in_row: skipped since the last one that was not.

    Example:
        >>> skipped = SkippedQueries(most=3)
        >>> skipped.finite(torch.tensor([0.5, float("nan")]), step=0)
        tensor([ True, False])
        >>> skipped.count, skipped.in_row
        (1, 1)
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.count = 0
        self.in_row = 0

    def finite(self, values: Tensor, step: int) -> Tensor:
        """Which queries of a step count, ``[queries]`` bool; the others are counted as skipped.

        Args:
            values: of the queries, ``[queries]``.
            step: the number of the step, for the message.

        Raises:
            UserError: if ``most`` queries in a row were skipped.
        """
        finite = torch.isfinite(values)
        for good in finite.tolist():
            self.in_row = 0 if good else self.in_row + 1
            self.count += not good
        if self.in_row >= self.most:
            raise UserError(
                f"the loss was NaN or infinite for {self.in_row} queries in a row at step {step}; "
                "the weights keep their last good state: lower lr or eps, or use dtype float32"
            )
        return finite

    def save(self, checkpoint: dict[str, Any]) -> None:
        """Write both counts to a checkpoint."""
        checkpoint["zolit_skipped_queries"] = self.count
        checkpoint["zolit_skipped_in_row"] = self.in_row

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Take both counts from a checkpoint."""
        self.count = checkpoint["zolit_skipped_queries"]
        self.in_row = checkpoint.get("zolit_skipped_in_row", 0)
