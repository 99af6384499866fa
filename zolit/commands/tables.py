"""The output of the commands: tables of ``fit`` and ``estimate``, the rows of ``predict``."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from torch import Tensor

from zolit.checkpoints.moved import ALL
from zolit.errors import UserError
from zolit.memory.estimate import Estimate

if TYPE_CHECKING:
    from zolit.harness.evaluate import Figure

_BAR = 24


def result_table(summary: dict[str, Any], folder: str) -> Table:
    """Zero-shot and final figures side by side, and the cost of the run.

    Args:
        summary: of ``RunReport``.
        folder: of the run, named in the title.
    """
    steps, best = summary["steps"], summary["best"]
    which = f"step {steps}, the last: no validation chose another"
    if best is not None:
        chosen = _figure(best[best["by"]])
        which = f"step {best['step']}, the best by {best['by'].replace('_', ' ')} ({chosen})"
    elif summary["best_checkpoint"] is not None:
        which = f"the best checkpoint, {summary['best_checkpoint']}"
    title = f"{folder}: {steps} steps; fine-tuned: {which}"
    table = Table(title=title, title_justify="left", caption_justify="left")
    before, after = summary["zero_shot"] or {}, summary["final"] or {}
    table.add_column("")
    table.add_column("zero-shot", justify="right")
    table.add_column("fine-tuned", justify="right")
    for name in sorted({*before, *after}):
        label = name.replace("_", " ")
        table.add_row(label, _figure(before.get(name)), _figure(after.get(name)))
    if text := summary["text_loss"]:
        pair = (_figure(text.get(name)) for name in ("zero_shot", "fine_tuned"))
        table.add_row("loss of the prompts' own text", *pair)
    if text := summary.get("general_text"):
        pair = (_figure(text.get(name)) for name in ("zero_shot", "fine_tuned"))
        table.add_row(f"perplexity of {text['text']}", *pair)
    if last := summary["validation"]:
        table.add_section()
        for name in sorted(last):
            label = f"{name.replace('_', ' ')} at step "
            if (
                best is not None
                and best["step"] != summary["validation_step"]
                and best.get(name) is not None
            ):
                table.add_row(f"{label}{best['step']} (best)", "", _figure(best[name]))
            table.add_row(f"{label}{summary['validation_step']} (last)", "", _figure(last[name]))
    table.add_section()
    if (length := summary["relative_step"]) is not None:
        table.add_row("a step moves the weights by", "", f"{100 * length:.2g} %")
    for label, share in moved_rows(summary.get("weights_moved") or {}):
        table.add_row(label, "", "-" if share is None else f"{100 * share:.2g} %")
    costs = [("ms per step (median)", summary["step_ms_median"], "{:.0f}")]
    costs.append((f"peak memory, {summary['memory']} (MB)", summary["peak_memory_mb"], "{:.0f}"))
    costs.append(("fitting (s)", summary["fit_seconds"], "{:.0f}"))
    for label, value, form in costs:
        table.add_row(label, "", "-" if value is None else form.format(value))
    if summary["findings"]:
        table.caption = "\n".join(f"zolit: {one}" for one in summary["findings"].values())
    return table


def moved_rows(moved: Mapping[str, float | None]) -> list[tuple[str, float | None]]:
    """How far all weights have moved, and the kind of layer that has moved farthest.

    Args:
        moved: by group, as `zolit.checkpoints.moved.relative_moves` gives it.
    """
    if not moved:
        return []
    rows = [("all steps moved the weights by", moved.get(ALL))]
    known = {name: one for name, one in moved.items() if name != ALL and one is not None}
    if len(known) > 1:
        farthest = max(known, key=lambda name: known[name])
        rows.append((f"farthest: {farthest}", known[farthest]))
    return rows


def pruned_table(summary: dict[str, Any], folder: str) -> Table:
    """Figures of the dense and of the pruned model side by side, and the cost.

    Args:
        summary: of `zolit.runs.prune.prune`.
        folder: of the run, named in the title.
    """
    title = f"{folder}: {summary['steps']} blocks pruned ({summary['pattern']})"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("dense", justify="right")
    table.add_column("pruned", justify="right")
    before, after = summary["zero_shot"] or {}, summary["final"] or {}
    for name in sorted({*before, *after}):
        table.add_row(name.replace("_", " "), _figure(before.get(name)), _figure(after.get(name)))
    table.add_section()
    if blocks := summary["blocks"]:
        worst = max(blocks, key=lambda one: one["output_error"] or 0.0)
        error = _figure(worst["output_error"])
        table.add_row(f"largest output error ({worst['path']})", "", error)
    table.add_row("linear weights that are zero", "", f"{100 * summary['zeros']:.2f} %")
    table.add_row("pruning (s)", "", f"{summary['seconds']:.0f}")
    memory = f"peak memory, {summary['memory']} (MB)"
    table.add_row(memory, "", f"{summary['peak_memory_mb']:.0f}")
    return table


def figures_table(figures: dict[str, float], title: str) -> Table:
    """Figures of ``test`` and ``validate``.

    Args:
        figures: by name.
        title: names the weights that were measured.
    """
    table = Table(title=title, title_justify="left", show_header=False)
    for name in sorted(figures):
        table.add_row(name.replace("_", " "), _figure(figures[name]))
    return table


def harness_table(figures: "Sequence[Figure]") -> Table:
    """Figures of ``evaluate``, task by task.

    Args:
        figures: of `zolit.harness.evaluate.figures`.
    """
    table = Table()
    for name in ("task", "shots", "rows", "metric", "value", "standard error"):
        table.add_column(name, justify="left" if name in ("task", "metric") else "right")
    for one in figures:
        counts = ("-" if count is None else str(count) for count in (one.shots, one.rows))
        table.add_row(one.task, *counts, one.metric, _figure(one.value), _figure(one.error))
    return table


def memory_table(estimate: Estimate, train: str, evaluation: str) -> Table:
    """Part by part in MB (10^6 bytes), with a bar as long as its share of the peak.

    Parts in parentheses do not add to the peak: a larger part uses the same memory at another time.

    Args:
        estimate: of a run.
        train: size of the training batch, in words.
        evaluation: size of the validation batch, in words.
    """
    running = estimate.peak_running >= estimate.peak_loading
    passing = {
        f"activations, step of {train}": estimate.step,
        f"activations, evaluation of {evaluation}": estimate.evaluation,
        "update": estimate.update,
        "best checkpoint, read back": estimate.checkpoint,
        "compiler, while it compiles": estimate.compiling,
    }
    steps = next(iter(passing)), "update"
    whole = {n: size + estimate.gradients * (n in steps) for n, size in passing.items()}
    most = max(whole, key=lambda name: whole[name])
    stepping = most in steps
    parts = [
        ("Python, libraries and rows", estimate.base, True),
        ("codes of the weights", estimate.codes, True),
        ("scales and zeros", estimate.scales, True),
        ("weights that stay floats", estimate.floats, True),
        ("error feedback", estimate.feedback, True),
        ("which coordinates move (mask)", estimate.masks, True),
        ("state of the optimizer", estimate.states, True),
        ("weights of the estimator's anchor", estimate.anchors, True),
        ("the largest weight while it is loaded", estimate.loading, not running),
        ("compiler", estimate.compiler, running),
        ("code for each further shape of batch", estimate.shapes, running),
        ("workspace of reads", estimate.workspace, running),
        ("gradients", estimate.gradients, running and stepping),
        *((name, size, running and name == most) for name, size in passing.items()),
    ]
    table = Table(title="Memory of the run, estimated", title_justify="left")
    table.add_column("")
    table.add_column("MB", justify="right")
    table.add_column("of the peak", min_width=_BAR)
    for name, size, adds in parts:
        if size:
            figure = f"{size / 1e6:.1f}"
            bar = "━" * max(1, round(_BAR * size / estimate.total)) if adds else ""
            table.add_row(name, figure if adds else f"({figure})", bar)
    table.add_section()
    table.add_row("peak while loading", f"({estimate.peak_loading / 1e6:.1f})", "")
    table.add_row("peak of the process", f"{estimate.total / 1e6:.1f}", "━" * _BAR)
    return table


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def predictions_csv(
    batches: Sequence[dict[str, Any]],
    rows: Sequence[int] | None,
    labels: Sequence[str] | None,
    answers: Sequence[str] | None,
) -> str:
    """CSV of predictions in the order of the rows.

    Args:
        batches: columns by name of each batch, in order, as `Evaluation.predict` gives them.
        rows: number of each row, in the order of the batches; None for 0, 1, 2, ...
        labels: of the C answers that the rows have; None if they have none.
        answers: the words of the C answers; None if the rows have none.

    Raises:
        UserError: the model gave no probabilities for a row.
    """
    if labels is None or answers is None or not all("probabilities" in one for one in batches):
        return _columns_csv(batches, rows)
    return _answers_csv(batches, rows, labels, answers)


def _answers_csv(
    batches: Sequence[dict[str, Any]],
    rows: Sequence[int] | None,
    labels: Sequence[str],
    answers: Sequence[str],
) -> str:
    """Number, label and word predicted, probability of each label."""
    predicted = [
        (choice, chances)
        for batch in batches
        for choice, chances in zip(
            batch["prediction"].tolist(), batch["probabilities"].tolist(), strict=True
        )
    ]
    numbers = range(len(predicted)) if rows is None else rows
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["row", "label", "word", *(f"p_{label}" for label in labels)])
    for row, (choice, chances) in sorted(zip(numbers, predicted, strict=True)):
        if not all(map(math.isfinite, chances)):
            raise UserError(
                f"predict: the model's scores of row {row} are NaN or infinite; give a checkpoint "
                "of an earlier step, or use dtype float32"
            )
        writer.writerow([row, labels[choice], answers[choice], *(f"{one:.6f}" for one in chances)])
    return text.getvalue()


def _columns_csv(batches: Sequence[dict[str, Any]], rows: Sequence[int] | None) -> str:
    """Every column; one of ``[B, K]`` as ``name_0`` to ``name_K-1``."""
    found: list[dict[str, Any]] = []
    for batch in batches:
        columns: dict[str, Any] = {}
        for name, values in batch.items():
            listed = values.tolist() if isinstance(values, Tensor) else list(values)
            if listed and isinstance(listed[0], list | tuple):
                parts = zip(*listed, strict=True)
                columns.update({f"{name}_{k}": part for k, part in enumerate(parts)})
            else:
                columns[name] = listed
        names = list(columns)
        found += [dict(zip(names, one, strict=True)) for one in zip(*columns.values(), strict=True)]
    numbers = range(len(found)) if rows is None else rows
    text = io.StringIO()
    writer = csv.DictWriter(text, ["row", *(found[0] if found else ())], lineterminator="\n")
    writer.writeheader()
    ordered = sorted(zip(numbers, found, strict=True), key=lambda pair: pair[0])
    writer.writerows({"row": number, **one} for number, one in ordered)
    return text.getvalue()
