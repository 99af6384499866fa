"""What the commands print: the table of ``zolit fit``, the rows of ``zolit predict``."""

import csv
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich.table import Table


def result_table(summary: dict[str, Any], folder: str) -> Table:
    """Zero-shot beside final figures, and what the run cost.

    Args:
        summary: of ``RunReport``.
        folder: of the run, named in the title.
    """
    table = Table(title=f"{folder}: {summary['steps']} steps", title_justify="left")
    before, after = summary["zero_shot"] or {}, summary["final"] or {}
    table.add_column("")
    table.add_column("zero-shot", justify="right")
    table.add_column("fine-tuned", justify="right")
    for name in sorted({*before, *after}):
        label = name.replace("_", " ")
        table.add_row(label, _figure(before.get(name)), _figure(after.get(name)))
    costs = [("ms per step (median)", summary["step_ms_median"], "{:.0f}")]
    costs.append((f"peak memory, {summary['memory']} (MB)", summary["peak_memory_mb"], "{:.0f}"))
    costs.append(("fitting (s)", summary["fit_seconds"], "{:.0f}"))
    table.add_section()
    for label, value, form in costs:
        table.add_row(label, "", "-" if value is None else form.format(value))
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def write_predictions(
    batches: Iterable[dict[str, Any]], answers: Sequence[str], file: TextIO
) -> None:
    """CSV: row number, predicted answer, probability of each answer.

    Args:
        batches: ``prediction`` ``[B]`` and ``probabilities`` ``[B, C]`` of each batch, in order.
        answers: the C answers.
        file: to write to.
    """
    writer = csv.writer(file)
    writer.writerow(["row", "prediction", *answers])
    row = 0
    for batch in batches:
        chances = batch["probabilities"].tolist()
        for choice, chance in zip(batch["prediction"].tolist(), chances, strict=True):
            writer.writerow([row, answers[choice], *(f"{one:.6f}" for one in chance)])
            row += 1
