"""What the folder of a run says, read without its model."""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zolit.errors import UserError, tell
from zolit.recipes.flat import flatten
from zolit.recipes.guard import load_yaml
from zolit.runs.folder import RunFolder, summary_of
from zolit.runs.found import rows_of, state_of
from zolit.runs.metrics_file import Row

_ROUNDED = 0.1
"""Seconds to which ``fit_seconds`` of summary.json is rounded."""


@dataclass(frozen=True)
class Point:
    """A validation of a run.

    Attributes:
        figures: by name, with their stage.
        seconds: wall-clock since the run began, over its sessions; None if it is not known.
        passes: forward passes made by then, a backward pass counted as two; None if not known.
    """

    figures: Mapping[str, float]
    seconds: float | None
    passes: float | None


@dataclass(frozen=True)
class Record:
    """A run as its folder tells it.

    Attributes:
        path: of the folder, as it was named.
        state: finished, running, interrupted, failed or killed.
        recipe: its configuration by dotted key; None for a run that was made from Python.
        summary: of summary.json; empty where there is none.
        steps: that it has made; of a run without a summary the batches.
        curve: its validations, in order.
        steps_alone: whether the times of ``curve`` are those of the steps alone, as of runs of a
            zolit that did not write down the wall-clock.
        checkpoint_bytes: of its best checkpoint, else of its last; None without one.
    """

    path: Path
    state: str
    recipe: Mapping[str, Any] | None
    summary: Mapping[str, Any]
    steps: int = 0
    curve: list[Point] = field(default_factory=list)
    steps_alone: bool = False
    checkpoint_bytes: int | None = None

    @property
    def finished(self) -> bool:
        """Whether it made all its steps."""
        return self.state == "finished"

    @property
    def seed(self) -> Any:
        """Of the run, and of its rows where that is another; None if it is not known."""
        if self.recipe is None:
            return self.summary.get("seed")
        seeds = [one for key, one in self.recipe.items() if is_seed(key) and one is not None]
        return "/".join(map(str, dict.fromkeys(seeds))) or None

    def number(self, *names: str) -> float | None:
        """A number of summary.json by the names of its groups, or None."""
        found: Any = self.summary
        for name in names:
            found = found.get(name) if isinstance(found, Mapping) else None
        return float(found) if isinstance(found, int | float) else None


def is_seed(key: str) -> bool:
    """Whether an option is a seed: of the run, of its rows, or of every generator.

    Args:
        key: dotted, as in config.yaml.
    """
    return key in ("model.seed", "data.init_args.seed", "seed_everything")


def read_record(path: Path) -> Record:
    """Read the folder of a run; a file that is broken is as one that is missing.

    Args:
        path: of a folder that holds a run.
    """
    folder = RunFolder(path)
    summary, rows = summary_of(folder), rows_of(folder)
    state = state_of(folder, summary)
    last = max((row["seconds"] for row in rows if "seconds" in row), default=0.0)
    written = summary.get("fit_seconds")
    if state == "finished" and isinstance(written, int | float) and last > written + _ROUNDED:
        state = "killed"  # resumed for more steps, of which the summary does not know
    if state in ("running", "killed"):
        summary = {}  # of an earlier session
    batches = (int(row["step"]) + 1 for row in rows if 0 <= row.get("step", -1) < math.inf)
    return Record(
        path,
        state,
        _recipe(folder),
        summary,
        int(summary.get("steps") or max(batches, default=0)),
        list(_points(rows)),
        steps_alone=any("step_ms" in row for row in rows) and not last,
        checkpoint_bytes=_checkpoint(folder),
    )


def _recipe(folder: RunFolder) -> dict[str, Any] | None:
    if not folder.config.is_file():
        return None
    try:
        return flatten(load_yaml(folder.config.read_text(encoding="utf-8"), str(folder.config)))
    except (UserError, OSError, ValueError) as error:
        tell(f"{folder.config} cannot be read: {error}")
        return None


def _checkpoint(folder: RunFolder) -> int | None:
    files = (folder.checkpoints / f"{name}.ckpt" for name in ("best", "last"))
    return next((file.stat().st_size for file in files if file.is_file()), None)


def _points(rows: Iterable[Row]) -> Iterator[Point]:
    totals: dict[str, float] = {}
    steps, before = 0.0, None
    for row in rows:
        totals |= {name: row[name] for name in ("seconds", "forwards", "backwards") if name in row}
        step = (row.get("train_loss"), row.get("step_ms"))
        # A batch of a step that needs further ones repeats the figures of the last step.
        if step[1] is not None and step != before:
            steps, before = steps + step[1] / 1e3, step
        figures = {n: v for n, v in row.items() if n.startswith("val_") and math.isfinite(v)}
        if figures:
            passes = None
            if "forwards" in totals:
                passes = totals["forwards"] + 2 * totals.get("backwards", 0.0)
            yield Point(figures, totals.get("seconds", steps or None), passes)
