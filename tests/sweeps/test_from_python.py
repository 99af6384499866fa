"""`zolit.sweep`: points that a function makes."""

import sys
from pathlib import Path
from typing import Any

import lightning as L
import pytest

import zolit
from zolit.errors import UserError
from zolit.optim import ZOSGD

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from test_first_order import Data
from test_zero_order import module

OPTIONS: dict[str, Any] = {
    "val_check_interval": 2,
    "check_val_every_n_epoch": None,
    "accelerator": "cpu",
    "enable_progress_bar": False,
}
GRID = {"lr": [1.0, 100.0, 1e7]}


def make(lr: float) -> tuple[L.LightningModule, L.LightningDataModule]:
    return module(optimizer=lambda params: ZOSGD(params, lr=lr)), Data()


def test_a_sweep_from_python_goes_on(tmp_path: Path) -> None:
    made: list[float] = []

    def broken(lr: float) -> tuple[L.LightningModule, L.LightningDataModule]:
        made.append(lr)
        if len(made) == 4:  # the judge's, and those of two points
            raise SystemError("the process ends")
        return make(lr)

    wanted = zolit.sweep(make, GRID, tmp_path / "whole", 6, **OPTIONS)
    assert [one.state for one in wanted.every].count("stopped") == 2
    assert sorted(one.known["steps"] for one in wanted.every if one.known) == [2, 2, 6]
    with pytest.raises(SystemError):
        zolit.sweep(broken, GRID, tmp_path / "killed", 6, **OPTIONS)
    with pytest.raises(UserError, match="holds a sweep; go on with it by resume=True"):
        zolit.sweep(make, GRID, tmp_path / "killed", 6, **OPTIONS)
    found = zolit.sweep(make, GRID, tmp_path / "killed", 6, resume=True, **OPTIONS)
    assert found.best.point == wanted.best.point

    def told(one: Any) -> Any:
        known = {name: value for name, value in one.known.items() if name != "seconds"}
        return one.point, one.state, one.why, known

    assert list(map(told, found.every)) == list(map(told, wanted.every))
    assert zolit.compare([tmp_path / "whole"]).figure.key == "val_accuracy"


def test_another_grid_is_refused(tmp_path: Path) -> None:
    options = zolit.SweepOptions(stopping="none")
    zolit.sweep(make, {"lr": [1.0]}, tmp_path / "one", 2, options=options, **OPTIONS)
    with pytest.raises(UserError, match="grid: is not that of the sweep"):
        zolit.sweep(make, {"lr": [2.0]}, tmp_path / "one", 2, resume=True, **OPTIONS)
