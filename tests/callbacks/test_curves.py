from pathlib import Path

import matplotlib.image
import pytest

from zolit.callbacks.curves import Curve, draw_curves

LONG: Curve = [(step, 1 / step) for step in range(1, 60)]


@pytest.mark.parametrize(
    "curves",
    [{}, {"train_loss": LONG[:1]}, {"train_loss": LONG, "val_loss": LONG, "val_accuracy": LONG}],
)
@pytest.mark.parametrize("zero_shot", [{}, {"test_loss": 0.7, "test_accuracy": 0.5}])
def test_picture(curves: dict[str, Curve], zero_shot: dict[str, float], tmp_path: Path) -> None:
    file = tmp_path / "curves.png"
    draw_curves(file, curves, zero_shot)
    height, width, _ = matplotlib.image.imread(file).shape
    assert width > height > 200
    assert list(tmp_path.iterdir()) == [file]
