import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy
from toy import Toy, loader, trainer

from zolit.callbacks.best import BestCheckpoint, Validation, best_validation
from zolit.evaluations import Evaluation

NAN = math.nan


def validation(step: int, loss: float | None, accuracy: float | None) -> Validation:
    figures = {"val_loss": loss, "val_accuracy": accuracy}
    return Validation(step, {name: one for name, one in figures.items() if one is not None})


@pytest.mark.parametrize(
    ("by", "figures", "best"),
    [
        ("val_loss", [(0.9, 0.5), (0.7, 0.4), (0.8, 0.9)], 1),
        ("val_accuracy", [(0.9, 0.5), (0.7, 0.4), (0.8, 0.9)], 2),
        ("val_accuracy", [(0.833, 0.52), (0.685, 0.52), (0.7, 0.52)], 1),
        ("val_loss", [(0.7, 0.5), (0.7, 0.6), (0.7, 0.6)], 1),
        ("val_loss", [(NAN, 0.9), (0.7, 0.5)], 1),
        ("val_loss", [(0.7, 0.5), (NAN, 0.9)], 0),
        ("val_loss", [(math.inf, 0.5), (3.0, 0.5)], 1),
        ("val_accuracy", [(None, 0.5), (None, 0.6)], 1),
    ],
)
def test_the_best_validation(by: str, figures: list[tuple[Any, Any]], best: int) -> None:
    validations = [validation(step, *pair) for step, pair in enumerate(figures)]
    found = best_validation(validations, by)
    assert found is not None
    assert found.step == best


def test_no_validation_is_no_best_one() -> None:
    assert best_validation([], "val_loss") is None


class Figures(Toy):
    """Validates to figures that are given, one pair after each step."""

    def __init__(self, figures: list[tuple[float, float]]) -> None:
        super().__init__()
        self.figures = figures

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        loss, accuracy = self.figures[self.global_step - 1]
        self.log("val_loss", loss)
        self.log("val_accuracy", accuracy)


FIGURES = [(0.9, 0.5), (0.8, 0.5), (NAN, 0.1), (0.85, 0.5), (0.8, 0.5), (0.95, 0.4)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("by", ["val_accuracy", "val_loss"])
def test_the_checkpoint_is_of_the_best_validation(by: str, tmp_path: Path) -> None:
    saver = BestCheckpoint(by, dirpath=tmp_path, filename="best")
    runner = trainer(saver, val_check_interval=1)
    runner.fit(Figures(FIGURES), loader(), loader())
    saved = torch.load(tmp_path / "best.ckpt", weights_only=True)
    assert saved["global_step"] == 2
    assert saver.best == validation(2, pytest.approx(0.8), 0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]
    again = BestCheckpoint(by, dirpath=tmp_path, filename="best")
    assert again.state_key == ModelCheckpoint(monitor=by, mode=saver.mode).state_key
    again.load_state_dict(saver.state_dict())
    assert again.best == saver.best


@pytest.mark.filterwarnings("ignore")
def test_a_state_of_lightnings_own_class_is_taken_up(tmp_path: Path) -> None:
    old = ModelCheckpoint(tmp_path, "best", monitor="val_loss", mode="min")
    trainer(old, val_check_interval=1, max_steps=2).fit(Figures(FIGURES), loader(), loader())
    saver = BestCheckpoint("val_loss", dirpath=tmp_path, filename="best")
    saver.load_state_dict(old.state_dict())
    assert saver.best is None, "what it was is not known"
    runner = trainer(saver, val_check_interval=1, max_steps=1)
    runner.fit(Figures([(0.85, 0.5)]), loader(), loader())
    assert saver.best is None, "0.85 is no better than the 0.8 of before"


class AccuracyAlone(Toy):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_accuracy", 1.0 / self.global_step)


@pytest.mark.filterwarnings("ignore")
def test_a_module_may_log_one_figure_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saver = BestCheckpoint("val_loss", dirpath=tmp_path, filename="best")
    trainer(saver, val_check_interval=2).fit(AccuracyAlone(), loader(), loader())
    assert saver.best == validation(2, None, 0.5)
    said = capsys.readouterr().out.splitlines()
    assert said == ["zolit: no val_loss is logged, val_accuracy chooses the best checkpoint"]


def test_what_a_checkpoint_of_before_remembers_is_taken_up(tmp_path: Path) -> None:
    saver = BestCheckpoint("val_loss", dirpath=tmp_path, filename="best")
    state = saver.state_dict() | {"best_k_models": {str(tmp_path / "best.ckpt"): 0.5}}
    saver.load_state_dict(state | {"best": {"step": 4, "val_loss": None, "val_accuracy": 0.5}})
    assert saver.best == validation(4, None, 0.5)
    for odd in ("4", {"val_loss": 0.5}, {"step": 4, "val_loss": "0.5"}):
        saver.load_state_dict(state | {"best": odd})
        assert saver.best is None


class Ranked(Evaluation):
    """A perplexity, and a figure whose metric says that more is better."""

    primary = "perplexity"

    def __init__(self) -> None:
        super().__init__(perplexity=MeanMetric(), right=MulticlassAccuracy(2))

    def update(self, model: Any, batch: Any) -> None:
        raise NotImplementedError


class Perplexities(Toy):
    def __init__(self) -> None:
        super().__init__()
        self.evaluation = Ranked()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_perplexity", [9.0, 7.0, 8.0][self.global_step - 1])


@pytest.mark.filterwarnings("ignore")
def test_a_perplexity_is_minimized(tmp_path: Path) -> None:
    module = Perplexities()
    saver = BestCheckpoint(evaluation=module.evaluation, dirpath=tmp_path, filename="best")
    assert (saver.monitor, saver.mode) == ("val_perplexity", "min")
    trainer(saver, val_check_interval=1, max_steps=3).fit(module, loader(), loader())
    assert torch.load(tmp_path / "best.ckpt", weights_only=True)["global_step"] == 2
    assert BestCheckpoint("val_right", module.evaluation).mode == "max"
