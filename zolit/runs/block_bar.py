"""How far a sweep over the blocks of a model has come."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich import progress as bars
from rich.console import Console

from zolit.calibration.sweeps import Report
from zolit.runs.milestones import Milestones


@contextmanager
def block_bar(name: str) -> Iterator[Report]:
    """A bar over blocks in a terminal; elsewhere at most ten lines. What it yields moves it.

    Args:
        name: shown before it.
    """
    console = Console()
    if not console.is_terminal:
        yield _Lines(name)
        return
    columns: list[Any] = [
        bars.TextColumn(name),
        bars.BarColumn(bar_width=24),
        bars.MofNCompleteColumn(),
        bars.TextColumn("passes through blocks"),
        bars.TimeRemainingColumn(),
    ]
    with bars.Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(name, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


class _Lines:
    def __init__(self, name: str) -> None:
        self.name = name
        self.lines = Milestones()

    def __call__(self, done: int, total: int) -> None:
        if self.lines.due(done, total):
            print(f"{self.name}: {done}/{total} passes through blocks", flush=True)
