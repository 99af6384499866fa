"""Each option of Lightning's trainer is followed, or refused before anything is made."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
from cli_recipe import changed, recipe, refusal, write
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from zolit.cli import main
from zolit.commands.checks import check_callbacks
from zolit.commands.trainer_options import refuse_trainer_options
from zolit.errors import UserError

REFUSED: list[tuple[str, Any, str]] = [
    ("devices", 2, "one process"),
    ("devices", "2", "one process"),
    ("devices", [0, 1], "one process"),
    ("devices", "0,1", "one process"),
    ("num_nodes", 2, "one process"),
    ("strategy", "ddp", "one process"),
    ("strategy", "fsdp", "one process"),
    ("sync_batchnorm", True, "one process"),
    ("precision", "16-mixed", "model.dtype"),
    ("precision", "16-true", "model.dtype"),
    ("precision", "bf16-mixed", "model.dtype"),
    ("precision", "bf16-true", "model.dtype"),
    ("precision", 16, "model.dtype"),
    ("precision", "64-true", "model.dtype"),
    ("accumulate_grad_batches", 4, "model.micro_batches"),
    ("gradient_clip_val", 1.0, "ClippedTwoPoint"),
    ("gradient_clip_algorithm", "norm", "ClippedTwoPoint"),
    ("detect_anomaly", True, "no backward pass"),
    ("inference_mode", True, "trainer.inference_mode"),
    ("barebones", True, "metrics.csv"),
    ("reload_dataloaders_every_n_epochs", 1, "journal"),
    ("overfit_batches", 2, "trainer.limit_train_batches"),
    ("model_registry", "a/b", "zolit publish"),
    ("limit_train_batches", 0, "no step"),
    ("max_steps", 0, "no step"),
    ("max_epochs", 0, "no step"),
]
ALLOWED: dict[str, list[Any]] = {
    "devices": [None, 1, "1", "auto", -1, [0], "1,"],
    "num_nodes": [1],
    "strategy": ["auto", "single_device"],
    "precision": [None, 32, "32", "32-true"],
    "accumulate_grad_batches": [1],
    "gradient_clip_val": [None, 0.0],
    "limit_train_batches": [None, 1, 0.5],
    "max_steps": [-1, 3, "3"],
}


@pytest.mark.parametrize(("name", "value", "instead"), REFUSED)
def test_refused(name: str, value: Any, instead: str) -> None:
    with pytest.raises(UserError, match=rf"trainer\.{name}: got .*{instead}"):
        refuse_trainer_options({name: value}, fits=True)


@pytest.mark.parametrize("name", ALLOWED)
def test_allowed(name: str) -> None:
    for value in ALLOWED[name]:
        refuse_trainer_options({name: value}, fits=True)


def test_no_step_is_refused_only_where_steps_are_asked_for() -> None:
    refuse_trainer_options({"max_steps": 0, "limit_train_batches": 0}, fits=False)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"trainer.devices": 2, "trainer.accelerator": "cpu"}, "trainer.devices: got 2"),
        ({"trainer.devices": [0, 1]}, "trainer.devices: got [0, 1]"),
        ({"trainer.strategy": {"class_path": "DDPStrategy"}}, "trainer.strategy: got "),
        ({"trainer.precision": "16-mixed"}, "trainer.precision: got '16-mixed'"),
        ({"trainer.accelerator": "tpu"}, "torch_xla"),
        ({"trainer.accelerator": "nonsense"}, "invalid accelerator name"),
        ({"trainer.profiler": "nonsense"}, "profiler"),
        ({"trainer.max_time": "abc"}, "abc"),
        ({"trainer.max_steps": -5}, "max_steps"),
        ({"trainer.val_check_interval": 50}, "an epoch has 4 batches; set at most 4"),
        ({"trainer.limit_train_batches": 2}, "an epoch has 2 batches; set at most 2"),
        ({"trainer.limit_train_batches": 0.5}, "an epoch has 2 batches; set at most 2"),
        (
            {
                "trainer.plugins": [
                    {
                        "class_path": "lightning.pytorch.plugins.MixedPrecision",
                        "init_args": {"precision": "bf16-mixed", "device": "cpu"},
                    }
                ]
            },
            "trainer.plugins: got one for the precision bf16-mixed",
        ),
        ({"trainer.logger": "TensorBoardLogger"}, "trainer.logger.save_dir: is required"),
        ({"trainer.logger": "WandbLogger"}, "trainer.logger: WandbLogger needs the package wandb"),
        (
            {"trainer.callbacks": [{"class_path": "nopackage.Callback"}]},
            "trainer.callbacks.0: 'nopackage.Callback' cannot be imported",
        ),
        (
            {
                "trainer.callbacks": [
                    {"class_path": "Timer", "init_args": {"duration": "00:00:00:01"}}
                ]
            },
            "trainer.max_time",
        ),
        (
            {
                "trainer.callbacks": [
                    {"class_path": "EarlyStopping", "init_args": {"monitor": "loss"}}
                ]
            },
            "monitor 'loss', expected a figure that is logged: train_loss",
        ),
    ],
)
def test_refused_before_the_folder(
    changes: dict[str, Any],
    named: str,
    tmp_path: Path,
    tiny_llama: Path,
    films_csv: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    changes = {"run.zero_shot": False, **changes}
    file = write(changed(recipe(tiny_llama, films_csv), changes), tmp_path / "recipe.yaml")
    assert named in refusal(capsys, "fit", "--config", file)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer.val_check_interval": 50, "trainer.check_val_every_n_epoch": None},
        {"trainer.val_check_interval": 50, "trainer.limit_val_batches": 0},
        {"trainer.val_check_interval": 0.5, "trainer.limit_test_batches": 1},
        {"trainer.max_epochs": 1, "trainer.max_steps": -1},
        {"trainer.logger": {"class_path": "CSVLogger", "init_args": {"save_dir": "mine"}}},
        {"trainer.profiler": "simple", "trainer.deterministic": True},
    ],
)
def test_followed(
    changes: dict[str, Any],
    tmp_path: Path,
    tiny_llama: Path,
    films_csv: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    quick = {"run.zero_shot": False, "run.test_after_fit": False, "run.run_dir": "run"}
    file = write(changed(recipe(tiny_llama, films_csv), quick | changes), tmp_path / "recipe.yaml")
    main(["fit", "--config", file])
    assert (tmp_path / "run" / "summary.json").exists()
    # metrics.csv is there beside any other logger.
    assert "train_loss" in (tmp_path / "run" / "metrics.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "options", "instead"),
    [
        ("GradientAccumulationScheduler", {"scheduling": {0: 2}}, "model.micro_batches"),
        ("StochasticWeightAveraging", {"swa_lrs": 0.1}, "leave it out"),
        ("EMAWeightAveraging", {}, "leave it out"),
        ("LearningRateFinder", {}, "leave it out"),
        ("BatchSizeFinder", {}, "data.batch_size"),
        ("SpikeDetection", {}, "leave it out"),
        ("ModelPruning", {"pruning_fn": "l1_unstructured"}, "leave it out"),
    ],
)
def test_callbacks_that_take_the_step_over(name: str, options: Any, instead: str) -> None:
    callback = getattr(L.pytorch.callbacks, name)(**options)
    with pytest.raises(UserError, match=rf"trainer\.callbacks: got {name}; .*{instead}"):
        check_callbacks([callback], [])


def test_figures_that_callbacks_watch() -> None:
    check_callbacks([EarlyStopping("val_loss"), ModelCheckpoint(monitor="step")], ["val_loss"])
    check_callbacks([EarlyStopping("clipped")], ["clipped"])
    with pytest.raises(UserError, match="monitor 'clipped'"):
        check_callbacks([ModelCheckpoint(monitor="clipped")], [])

    class Mine(Callback):
        """May log figures of its own."""

    check_callbacks([EarlyStopping("mine"), Mine()], [])
