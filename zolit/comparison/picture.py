"""A comparison as a picture: a figure of validation against time and passes, and against memory."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Picture

from zolit.comparison.figure import Figure
from zolit.comparison.lines import Line
from zolit.comparison.record import Point, Record
from zolit.files import replacing

Panel = Callable[[Axes], None]
_TIME = "wall-clock, s"
_PASSES = "forward passes (a backward pass as two)"
_MEMORY = "peak memory, MB"


def draw(path: Path, lines: Sequence[Line], figure: Figure) -> None:
    """Write the picture as PNG; replaced at once when it is complete.

    Args:
        path: of the file.
        lines: of the recipes, a colour each.
        figure: that they are compared by.
    """
    canvas = FigureCanvasAgg(picture(lines, figure))
    with replacing(path) as scratch:
        canvas.print_png(scratch)


def picture(lines: Sequence[Line], figure: Figure) -> Picture:
    """The picture of `draw`: a panel for each axis of which something is known.

    A run is a line, or a point over memory; one that is not finished is dashed.
    """
    key = f"val_{figure.name}"
    curves: dict[str, Callable[[Point], float | None]] = {
        _TIME: lambda point: point.seconds,
        _PASSES: lambda point: point.passes,
    }
    panels: list[tuple[str, Panel]] = []
    for label, place in curves.items():
        drawn = [
            (number, line.name, record, _curve(record, key, place))
            for number, line in enumerate(lines)
            for record in line.records
        ]
        if any(points for *_, points in drawn):
            panels.append((label, lambda axes, drawn=drawn: _draw_curves(axes, drawn)))  # type: ignore[misc]
    if any(_over_memory(line, figure) for line in lines):
        panels.append((_MEMORY, lambda axes: _draw_points(axes, lines, figure)))
    found = Picture(figsize=(4.5 * max(1, len(panels)), 3.8), layout="constrained")
    for place_, (label, panel) in enumerate(panels, start=1):
        axes = found.add_subplot(1, len(panels), place_)
        panel(axes)
        axes.locator_params(axis="x", nbins=6)
        name = figure.key if label == _MEMORY else key
        axes.set_xlabel(label)
        axes.set_ylabel(name.replace("_", " "))
        if place_ == 1:
            axes.legend(fontsize="small")
    return found


def _curve(
    record: Record, key: str, place: Callable[[Point], float | None]
) -> list[tuple[float, float]]:
    pairs = ((place(point), point.figures.get(key)) for point in record.curve)
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _draw_curves(
    axes: Axes, drawn: Sequence[tuple[int, str, Record, list[tuple[float, float]]]]
) -> None:
    named: set[str] = set()
    for number, name, record, points in drawn:
        if points:
            x, y = zip(*points, strict=True)
            label = None if name in named else name
            named.add(name)
            style = "-" if record.finished else "--"
            axes.plot(x, y, style, marker=".", color=f"C{number}", linewidth=1, label=label)


def _over_memory(line: Line, figure: Figure) -> list[tuple[float, float]]:
    pairs = ((one.number("peak_memory_mb"), figure.of(one)) for one in line.finished)
    return [(x, y) for x, y in pairs if x is not None and y is not None]


def _draw_points(axes: Axes, lines: Sequence[Line], figure: Figure) -> None:
    for number, line in enumerate(lines):
        points = _over_memory(line, figure)
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "o", color=f"C{number}", label=line.name)
