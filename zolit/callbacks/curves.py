"""The picture of a run."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from zolit.files import replacing

Curve = Sequence[tuple[int, float]]
"""Pairs of step and value."""

_WINDOW = 20


def draw_curves(
    path: Path,
    curves: Mapping[str, Curve],
    zero_shot: Mapping[str, float],
    final: Mapping[str, float],
    step: int,
    panels: Sequence[str] = ("loss",),
) -> None:
    """Write a PNG of some figures over steps, a panel each; what has no figure is left out.

    Args:
        path: of the picture; replaced at once when it is complete.
        curves: by name with their stage, such as ``train_loss`` and ``val_loss``.
        zero_shot: figures of the untuned model such as ``test_loss``, drawn as dotted lines.
        final: those of the fine-tuned model, drawn as a star at ``step``.
        step: that the fine-tuned figures are of; its validation is ringed.
        panels: names of the figures, without their stage.
    """
    canvas = FigureCanvasAgg(curves_figure(curves, zero_shot, final, step, panels))
    with replacing(path) as scratch:
        canvas.print_png(scratch)


def curves_figure(
    curves: Mapping[str, Curve],
    zero_shot: Mapping[str, float],
    final: Mapping[str, float],
    step: int,
    panels: Sequence[str] = ("loss",),
) -> Figure:
    """The picture of `draw_curves`."""
    shown = [name for name in panels if _known(name, curves, zero_shot, final)]
    figure = Figure(figsize=(4.5 * max(1, len(shown)), 3.6), layout="constrained")
    for place, name in enumerate(shown, start=1):
        axes = figure.add_subplot(1, len(shown), place)
        train = _finite(curves.get(f"train_{name}", ()))
        _line(axes, train, "train, each step", color="0.8", linewidth=0.8)
        _line(axes, _smoothed(train), f"train, mean of {_WINDOW} steps", color="tab:blue")
        validation = _finite(curves.get(f"val_{name}", ()))
        _line(axes, validation, "validation", color="tab:orange", marker="o")
        best = [one for one in validation if one[0] == step]
        ring = {"marker": "o", "markersize": 9, "linestyle": "", "color": "tab:red"}
        _line(axes, best, f"validation of step {step}", markerfacecolor="none", **ring)
        if (start := _figure(zero_shot, name)) is not None:
            axes.axhline(start, color="0.3", linestyle=":", label="test, zero-shot")
        if (end := _figure(final, name)) is not None:
            star = {"marker": "*", "markersize": 10, "linestyle": "", "color": "tab:green"}
            _line(axes, [(step, end)], f"test, fine-tuned (step {step})", **star)
        axes.set_xlabel("step")
        axes.set_ylabel(name.replace("_", " "))
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize="small")
    return figure


def _line(axes: Axes, curve: Curve, label: str, **style: Any) -> None:
    if curve:
        steps, values = zip(*curve, strict=True)
        axes.plot(steps, values, label=label, **{"markersize": 3, **style})


def _known(name: str, curves: Mapping[str, Curve], *figures: Mapping[str, float]) -> bool:
    """Whether a panel would show anything."""
    lines = (_finite(curves.get(f"{part}_{name}", ())) for part in ("train", "val"))
    return any(lines) or any(_figure(one, name) is not None for one in figures)


def _figure(figures: Mapping[str, float], name: str) -> float | None:
    value = figures.get(f"test_{name}")
    return value if value is not None and math.isfinite(value) else None


def _finite(curve: Curve) -> Curve:
    """Without NaN and infinity, for which a plot has no place."""
    return [(step, value) for step, value in curve if math.isfinite(value)]


def _smoothed(curve: Curve) -> list[tuple[int, float]]:
    """Means over the steps up to each one: a ZO loss jumps from batch to batch."""
    means = []
    for end in range(_WINDOW, len(curve) + 1):
        window = [value for _, value in curve[end - _WINDOW : end]]
        means.append((curve[end - 1][0], sum(window) / _WINDOW))
    return means
