"""``zolit runs``: the runs below some folders, with state, step and figures."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zolit.errors import UserError
from zolit.runs.folder import RunFolder
from zolit.runs.found import described, runs_below

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
