"""A command follows each option of Lightning's trainer, or refuses it before anything is made."""

from pathlib import Path
from typing import Any

import pytest
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main


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
        ({"trainer.logger": "MLFlowLogger"}, "trainer.logger: MLFlowLogger needs the package mlf"),
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
