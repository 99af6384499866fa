"""Protocols of the callbacks that keep a run; zolit's own callbacks are in `zolit.callbacks`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L

from zolit.runs.journal.reader import Contents
from zolit.runs.metrics_file import Row


class StopRequested(KeyboardInterrupt):
    """A signal asked the run to end, and the running step was finished first.

    Attributes:
        signal: its number; the exit code of the process is 128 more.
        step: steps that were made.

    Example:
        >>> StopRequested(signal=15, step=40).step
        40
    """

    def __init__(self, signal: int, step: int) -> None:
        super().__init__(signal, step)
        self.signal, self.step = signal, step


@runtime_checkable
class KeepsJournal(Protocol):
    """Records every step (`zolit.callbacks.Journal`).

    Attributes:
        config: the configuration as YAML, for the journal's header.
    """

    config: str

    def claim(self, run_dir: str | Path) -> None:
        """Lock the journal of a folder."""

    def take_up(self, contents: Contents, steps: int, changes: dict[str, Any]) -> None:
        """Continue a journal after a number of steps; ``changes`` are options that the user
        changed."""

    def close(self) -> None:
        """Close the journal."""


@runtime_checkable
class Reports(Protocol):
    """Collects the figures of a run (`zolit.callbacks.RunReport`).

    Attributes:
        against_start: what a run costs besides, as `zolit.runs.against_start` found it.
    """

    against_start: dict[str, Any]

    def take_up(
        self, zero_shot: dict[str, float], rows: list[Row], steps: Callable[[int], int]
    ) -> None:
        """Continue the report of an interrupted run from its figures so far."""

    def summary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """The content of summary.json."""
        ...

    def write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write what there is."""


@runtime_checkable
class ReportsPruning(Protocol):
    """Collects the figures of a pruning run (`zolit.callbacks.PruneReport`).

    Attributes:
        zero_shot: figures of the dense model; empty before they are known.
    """

    zero_shot: dict[str, float]

    def take_up(self, zero_shot: dict[str, float]) -> None:
        """Take over the figures of the dense model from an earlier part of the run."""

    def pruned(self) -> None:
        """Know that tests from here on are of the pruned model."""

    def write(self, module: Any, blocks: Sequence[Any], status: str | None) -> dict[str, Any]:
        """Write summary.json; returns what is written."""
        ...


@runtime_checkable
class Stops(Protocol):
    """Ends a run between two steps when a signal asks for it (`zolit.callbacks.StopBetweenSteps`).

    Attributes:
        requested: the signal that was received; None before.
    """

    requested: int | None
