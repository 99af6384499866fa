"""The table at the end of ``zolit fit``."""

from typing import Any

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
