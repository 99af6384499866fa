"""The picture of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

Curve = Sequence[tuple[int, float]]
"""Pairs of step and value."""

_WINDOW = 20


def draw_curves(path: Path, curves: Mapping[str, Curve], zero_shot: Mapping[str, float]) -> None:
    """Write a PNG of loss (left) and accuracy (right) over steps.

    Args:
        path: of the picture; replaced at once when it is complete.
        curves: ``train_loss``, ``val_loss`` and ``val_accuracy``; absent ones are left out.
        zero_shot: ``test_accuracy`` and ``test_loss`` of the untuned model, drawn as dotted lines.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    loss, accuracy = figure.subplots(1, 2)
    train = curves.get("train_loss", ())
    _line(loss, train, "train, each step", color="0.8", linewidth=0.8)
    _line(loss, _smoothed(train), f"train, mean of {_WINDOW} steps", color="tab:blue")
    _line(loss, curves.get("val_loss", ()), "validation", color="tab:orange", marker="o")
    _line(accuracy, curves.get("val_accuracy", ()), "validation", color="tab:orange", marker="o")
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        if (start := zero_shot.get(f"test_{name}")) is not None:
            axes.axhline(start, color="0.3", linestyle=":", label="test, zero-shot")
        axes.set_xlabel("step")
        axes.set_ylabel(name)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    scratch = path.with_name(f".{path.name}")
    canvas.print_png(scratch)
    scratch.replace(path)


def _line(axes: Axes, curve: Curve, label: str, **style: Any) -> None:
    if curve:
        steps, values = zip(*curve, strict=True)
        axes.plot(steps, values, label=label, markersize=3, **style)


def _smoothed(curve: Curve) -> list[tuple[int, float]]:
    """Means over the steps up to each one: a ZO loss jumps from batch to batch."""
    means = []
    for end in range(_WINDOW, len(curve) + 1):
        window = [value for _, value in curve[end - _WINDOW : end]]
        means.append((curve[end - 1][0], sum(window) / _WINDOW))
    return means
