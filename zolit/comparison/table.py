"""A comparison as a table: in Markdown for readers, in CSV for programs."""

import csv
import io
from collections.abc import Callable, Sequence
from typing import Any

from zolit.comparison.figure import Figure
from zolit.comparison.lines import Line, mean_and_spread

MB = 2**20

Row = dict[str, Any]
"""A line as numbers, by the names of the columns of the CSV; None for what is not known."""


def row(line: Line, figure: Figure, reach: float | None) -> Row:
    """The numbers of a line: means over its finished runs, and the largest of their peaks.

    Args:
        line: of a recipe.
        figure: that runs are compared by.
        reach: value of the figure of validation whose time is asked for; None for none.
    """
    values = line.values(figure)
    mean, spread = mean_and_spread(values) if values else (None, None)
    untuned = [one for one in map(figure.untuned, line.finished) if one is not None]
    peaks = line.numbers("peak_memory_mb")
    found: Row = {
        "recipe": line.name,
        "runs": len(line.records),
        "finished": len(line.finished),
        "seeds": " ".join(str(one.seed) for one in line.records),
        "figure": figure.key,
        "measured": len(values),
        "mean": mean,
        "spread": spread,
        "values": " ".join(f"{one:.4g}" for one in values),
        "untuned": _mean(untuned),
        "steps": _mean(line.numbers("steps")),
        "forwards": _mean(line.numbers("forwards")),
        "backwards": _mean(line.numbers("backwards")),
        "seconds": _mean(line.numbers("fit_seconds")),
        "peak_memory_mb": max(peaks, default=None),
        "checkpoint_mb": _mean([one / MB for one in line.checkpoints()]),
    }
    if reach is not None:
        reached = line.reached(figure, reach)
        found |= {
            "reach": reach,
            "reached": reached.runs,
            "seconds_to_reach": _mean(reached.seconds),
        }
    return found


def csv_text(rows: Sequence[Row]) -> str:
    """A line of CSV for each recipe; an empty cell for what is not known."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def markdown(rows: Sequence[Row], figure: Figure) -> str:
    """A table with columns of equal width; columns that are empty are left out."""
    heads: dict[str, Callable[[Row], str]] = {
        "recipe": lambda one: one["recipe"],
        "runs": _runs,
        f"{figure.key.replace('_', ' ')}": _figure,
        "each run": lambda one: one["values"] if one["measured"] > 1 else "-",
        "untuned": lambda one: _number(one["untuned"], ".4g"),
        "steps": lambda one: _number(one["steps"], ".0f"),
        "forwards": lambda one: _number(one["forwards"], ".0f"),
        "backwards": lambda one: _number(one["backwards"], ".0f"),
        "wall-clock, s": lambda one: _seconds(one["seconds"]),
        "peak memory, MB": lambda one: _number(one["peak_memory_mb"], ".0f"),
        "checkpoint, MB": lambda one: _number(one["checkpoint_mb"], ".3g"),
    }
    if "reach" in rows[0]:
        heads[f"s to val {figure.name} {rows[0]['reach']:g}"] = _reached
    columns = [[head, *(cell(one) for one in rows)] for head, cell in heads.items()]
    always = ("recipe", "runs", figure.key.replace("_", " "))
    return aligned(
        [one for one in columns if one[0] in always or any(cell != "-" for cell in one[1:])]
    )


def aligned(columns: Sequence[Sequence[str]]) -> str:
    """Columns of text, the first cell of each its head, as a table in Markdown.

    Example:
        >>> print(aligned([["name", "a"], ["steps", "100"]]))
        | name | steps |
        |------|-------|
        | a    | 100   |
    """
    plain = [[cell.replace("|", "\\|") for cell in column] for column in columns]
    widths = [max(map(len, column)) for column in plain]
    lines = [
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))} |"
        for cells in zip(*plain, strict=True)
    ]
    rule = f"|{'|'.join('-' * (width + 2) for width in widths)}|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _runs(one: Row) -> str:
    done, every = one["finished"], one["runs"]
    return str(every) if done == every else f"{done} of {every}"


def _figure(one: Row) -> str:
    if one["mean"] is None:
        return "-"
    spread = "" if one["spread"] is None else f" ± {one['spread']:.2g}"
    return f"{one['mean']:.4g}{spread}"


def _reached(one: Row) -> str:
    if not one["reached"]:
        return "not reached" if one["finished"] else "-"
    part = "" if one["reached"] == one["finished"] else f" ({one['reached']} of {one['finished']})"
    return f"{_seconds(one['seconds_to_reach'])}{part}"


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
