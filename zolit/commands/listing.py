"""``zolit runs``: the runs below some folders, with state, step and figures."""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zolit.errors import UserError
from zolit.runs.folder import RunFolder, summary_of
from zolit.runs.journal.writer import is_written
from zolit.runs.metrics_file import Row, read_rows

COLUMNS = ("run", "state", "steps", "zero-shot", "best", "final")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``zolit runs``."""
    parser.add_argument(
        "folders", type=Path, nargs="*", metavar="FOLDER", help="of runs; by default runs/"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a run, by lines")


def start(given: argparse.Namespace) -> None:
    """Print the runs.

    Raises:
        UserError: if a folder is not there, or no run is below any.
    """
    folders = given.folders or [Path("runs")]
    found = [described(RunFolder(path)) for folder in folders for path in runs_below(folder)]
    if not found:
        told = ", ".join(repr(str(folder)) for folder in folders)
        raise UserError(
            f"runs: got {told}, expected folders with runs of zolit fit below; name the folder "
            "that --run.run_dir lay in"
        )
    if given.json:
        print("\n".join(json.dumps(run) for run in found))
        return
    print(table([_cells(run) for run in found]))


def runs_below(folder: Path) -> Iterator[Path]:
    """Folders of runs in a folder, itself included, by name.

    Raises:
        UserError: if it is not there.
    """
    if not folder.is_dir():
        raise UserError(f"runs: got {str(folder)!r}, which is no folder; name one with runs in it")
    if RunFolder(folder).holds_run():
        yield folder
        return
    names = ("config.yaml", "journal.bin", "summary.json")
    found = {file.parent for name in names for file in folder.rglob(name)}
    yield from (path for path in sorted(found) if RunFolder(path).holds_run())


def described(run: RunFolder) -> dict[str, Any]:
    """State, steps and figures of a run, from its files; a file that cannot be read is left out.

    Returns:
        ``run``, ``state`` (running, finished, interrupted, failed, or killed if the process ended
        without writing a summary), ``steps``, and where they are known ``zero_shot``, ``best`` and
        ``final``, as in summary.json.
    """
    summary = summary_of(run)
    rows = _rows(run)
    state = "running" if is_written(run.journal) else summary.get("status") or "killed"
    steps = [int(row["step"]) + 1 for row in rows if 0 <= row.get("step", -1) < math.inf]
    found = {"run": str(run.path), "state": state, "steps": max(steps, default=0)}
    if state != "running":  # a resumed run has the summary of its first part until it ends
        found["steps"] = summary.get("steps", found["steps"])
        for name in ("best", "final"):
            if summary.get(name):
                found[name] = summary[name]
    if summary.get("zero_shot"):
        found["zero_shot"] = summary["zero_shot"]
    return found


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text under `COLUMNS`."""
    lines = [COLUMNS, *rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def _cells(run: dict[str, Any]) -> list[str]:
    best = run.get("best") or {}
    figures = {name: value for name, value in best.items() if name not in ("by", "step")}
    shown = _figures(figures) + (f" (step {best['step']})" if "step" in best else "")
    return [
        run["run"],
        run["state"],
        str(run["steps"]),
        _figures(run.get("zero_shot") or {}),
        shown,
        _figures(run.get("final") or {}),
    ]


def _figures(figures: dict[str, Any]) -> str:
    numbers = {name: one for name, one in figures.items() if isinstance(one, int | float)}
    return ", ".join(f"{name.replace('_', ' ')} {one:.4g}" for name, one in numbers.items())


def _rows(run: RunFolder) -> list[Row]:
    try:
        return read_rows(run.metrics)
    except (OSError, ValueError):
        return []
