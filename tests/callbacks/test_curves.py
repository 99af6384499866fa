import math
from pathlib import Path

import matplotlib.image
import pytest

from zolit.callbacks.curves import Curve, curves_figure, draw_curves

PANELS = ("loss", "accuracy")
LONG: Curve = [(step, 1 / step) for step in range(1, 60)]


@pytest.mark.parametrize(
    "curves",
    [{}, {"train_loss": LONG[:1]}, {"train_loss": LONG, "val_loss": LONG, "val_accuracy": LONG}],
)
@pytest.mark.parametrize(
    "test", [{}, {"test_loss": 0.7, "test_accuracy": 0.5}, {"test_loss": math.nan}]
)
def test_picture(curves: dict[str, Curve], test: dict[str, float], tmp_path: Path) -> None:
    file = tmp_path / "curves.png"
    draw_curves(file, curves, test, test, 30, PANELS)
    height, width, _ = matplotlib.image.imread(file).shape
    assert width > height > 200
    assert list(tmp_path.iterdir()) == [file]


def drawn(
    curves: dict[str, Curve], before: dict[str, float], after: dict[str, float], step: int
) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Points of each line with a name, by panel."""
    return {
        axes.get_ylabel(): {
            str(line.get_label()): [(float(x), float(y)) for x, y in line.get_xydata()]
            for line in axes.get_lines()
        }
        for axes in curves_figure(curves, before, after, step, PANELS).axes
    }


def test_a_panel_without_figures_is_left_out() -> None:
    assert set(drawn({"train_loss": LONG}, {}, {}, 59)) == {"loss"}
    assert set(drawn({"train_loss": LONG}, {}, {"test_accuracy": 0.5}, 59)) == {"loss", "accuracy"}
    assert set(drawn({"train_loss": LONG, "val_accuracy": [(3, math.nan)]}, {}, {}, 3)) == {"loss"}


def test_every_legend_entry_has_a_line_and_the_best_step_is_marked() -> None:
    curves: dict[str, Curve] = {
        "train_loss": LONG[:5],  # too short for a mean
        "val_loss": [(2, 0.9), (4, 0.6), (6, 0.8)],
    }
    panel = drawn(curves, {"test_loss": 1.0}, {"test_loss": 0.65}, 4)["loss"]
    assert all(panel.values())
    assert set(panel) == {
        "train, each step",
        "validation",
        "validation of step 4",
        "test, zero-shot",
        "test, fine-tuned (step 4)",
    }
    assert panel["validation of step 4"] == [(4, 0.6)]
    assert panel["test, fine-tuned (step 4)"] == [(4, 0.65)]
