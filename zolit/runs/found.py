"""Finds runs below a folder, and says how far each is, from its files alone."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zolit.errors import UserError
from zolit.runs.folder import RunFolder, summary_of
from zolit.runs.journal.writer import is_written
from zolit.runs.metrics_file import Row, read_rows


def runs_below(folder: Path, command: str = "runs") -> Iterator[Path]:
    """Folders of runs in a folder, itself included, by name.

    Args:
        folder: of a run, or of several.
        command: that asks, for the message.

    Raises:
        UserError: if it is not there.
    """
    if not folder.is_dir():
        raise UserError(
            f"{command}: got {str(folder)!r}, which is no folder; name one with runs in it"
        )
    if RunFolder(folder).holds_run():
        yield folder
        return
    names = ("config.yaml", "journal.bin", "summary.json")
    found = {file.parent for name in names for file in folder.rglob(name)}
    yield from (path for path in sorted(found) if RunFolder(path).holds_run())


def rows_of(run: RunFolder) -> list[Row]:
    """metrics.csv of a run; none if it cannot be read."""
    try:
        return read_rows(run.metrics)
    except (OSError, ValueError):
        return []


def state_of(run: RunFolder, summary: dict[str, Any]) -> str:
    """Running, finished, interrupted, failed, or killed if the process left no summary.

    Args:
        run: its folder.
        summary: its summary.json (`summary_of`).
    """
    return "running" if is_written(run.journal) else str(summary.get("status") or "killed")


def described(run: RunFolder) -> dict[str, Any]:
    """State, steps and figures of a run, from its files; a file that cannot be read is left out.

    Returns:
        ``run``, ``state`` (`state_of`), ``steps``, and where they are known ``zero_shot``, ``best``
        and ``final``, as in summary.json.
    """
    summary = summary_of(run)
    state = state_of(run, summary)
    steps = [int(row["step"]) + 1 for row in rows_of(run) if 0 <= row.get("step", -1) < math.inf]
    found = {"run": str(run.path), "state": state, "steps": max(steps, default=0)}
    if state != "running":  # a resumed run has the summary of its first part until it ends
        found["steps"] = summary.get("steps", found["steps"])
        for name in ("best", "final"):
            if summary.get(name):
                found[name] = summary[name]
    if summary.get("zero_shot"):
        found["zero_shot"] = summary["zero_shot"]
    return found
