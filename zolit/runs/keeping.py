"""What a run asks of the callbacks that keep it; those of zolit are in `zolit.callbacks`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L

from zolit.runs.journal.reader import Contents
from zolit.runs.metrics_file import Row


class StopRequested(KeyboardInterrupt):
    """A signal asked the run to end, and the step it came in was finished.

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
    """Writes every step down (`zolit.callbacks.Journal`).

    Attributes:
        config: the configuration as YAML, for the journal's header.
    """

    config: str

    def claim(self, run_dir: str | Path) -> None:
        """Lock the journal of a folder."""

    def take_up(self, contents: Contents, steps: int, changes: dict[str, Any]) -> None:
        """Go on with a journal after so many steps, by options that changed."""

    def close(self) -> None:
        """Let go of the journal."""


@runtime_checkable
class Reports(Protocol):
    """Gathers what came of a run (`zolit.callbacks.RunReport`)."""

    def take_up(
        self, zero_shot: dict[str, float], rows: list[Row], steps: Callable[[int], int]
    ) -> None:
        """Go on with the report of an interrupted run: its figures so far."""

    def summary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """What came of the run, as summary.json has it."""
        ...


@runtime_checkable
class Stops(Protocol):
    """Ends a run between two steps when a signal asks for it (`zolit.callbacks.StopBetweenSteps`).

    Attributes:
        requested: the signal that came, None so far.
    """

    requested: int | None
