"""The command line on a tiny model: run folders, figures that repeat, other data modules."""

import csv
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from cli_recipe import changed, recipe, refusal, write
from lightning.pytorch.demos.boring_classes import BoringDataModule, BoringModel

from zolit.callbacks import Progress, RunReport
from zolit.cli import main, run
from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.runs.journal import read_journal


@pytest.fixture(scope="module")
def finished(
    tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, films_csv: Path
) -> tuple[Path, str]:
    """Folder of a finished run, and what the command printed."""
    folder = tmp_path_factory.mktemp("finished")
    config = write(recipe(tiny_llama, films_csv), folder / "recipe.yaml")
    done = zolit("fit", "--config", config, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return folder / "runs" / "recipe", done.stdout


def zolit(*args: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "zolit.cli", *args]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300)  # noqa: S603


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


def test_run_folder(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    names = {path.name for path in folder.iterdir()}
    files = {"config.yaml", "journal.bin", "metrics.csv", "summary.json", "curves.png"}
    assert names == {*files, "checkpoints", ".journal.bin.lock"}
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    for text in ("zero-shot: test accuracy", "step 3/3", "ms/step", "fine-tuned", "peak memory"):
        assert text in printed
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["train_loss"] != "" for row in rows) == 3
    assert any(row["val_accuracy"] for row in rows)


def test_summary(finished: tuple[Path, str]) -> None:
    told = summary(finished[0])
    assert told["status"] == "finished"
    assert told["steps"] == 3
    assert told["best_checkpoint"] == "checkpoints/best.ckpt"
    assert told["step_ms_median"] > 0
    assert told["peak_memory_mb"] > 100
    assert told["seed"] == 0
    for moment in ("zero_shot", "final"):
        assert set(told[moment]) == {"test_loss", "test_accuracy"}
    assert told["versions"]["torch"] == torch.__version__


def test_test_repeats_the_final_figure(
    finished: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = finished
    monkeypatch.chdir(folder.parents[1])
    before = sorted(path for path in folder.parents[1].rglob("*"))
    best = str(folder / "checkpoints" / "best.ckpt")
    cli = run(args=["test", "--config", str(folder / "config.yaml"), "--ckpt_path", best])
    figures = {name: float(value) for name, value in cli.trainer.callback_metrics.items()}
    assert figures == summary(folder)["final"]
    assert sorted(path for path in folder.parents[1].rglob("*")) == before


def test_test_prints_a_table_of_zolits_own(finished: tuple[Path, str]) -> None:
    """Four digits, the file that was measured, and no library's remarks."""
    folder, _ = finished
    config = str(folder / "config.yaml")
    done = zolit("test", "--config", config, "--ckpt_path", "best", cwd=folder.parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert "best.ckpt" in "".join(done.stdout.split())
    for name, value in summary(folder)["final"].items():
        row = next(line for line in done.stdout.splitlines() if name.replace("_", " ") in line)
        assert f" {value:.4f} " in row
    assert "DataLoader" not in done.stdout


def test_saved_config_runs_again_alike(finished: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = finished
    main(["fit", "--config", str(folder / "config.yaml"), "--run.run_dir", str(tmp_path / "again")])
    first, second = summary(folder), summary(tmp_path / "again")
    for name in ("zero_shot", "final", "validation", "steps"):
        assert first[name] == second[name]


def test_checkpoint_of_another_recipe_is_refused(
    finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = finished
    best = str(folder / "checkpoints" / "best.ckpt")
    args = ["--config", str(folder / "config.yaml"), "--ckpt_path", best]
    args += ["--model.quantizer", "Int4", "--model.quantizer.group_size", "32"]
    sentence = refusal(capsys, "test", *args)
    assert "checkpoint" in sentence


def test_earlier_run_is_kept_unless_overwritten(
    finished: tuple[Path, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["fit", "--config", str(finished[0] / "config.yaml"), "--trainer.max_steps=1"]
    config += ["--run.zero_shot=false", "--run.test_after_fit=false"]
    config += ["--run.run_dir", str(tmp_path / "run")]
    main(config)
    (tmp_path / "run" / "notes.txt").write_text("mine", encoding="utf-8")
    capsys.readouterr()
    assert "not empty" in refusal(capsys, *config)
    sentence = refusal(capsys, *config, "--run.overwrite=true", "--model.optimizer.lr=-1")
    assert "lr" in sentence
    assert summary(tmp_path / "run")["steps"] == 1, "a refused run must not clear the earlier one"
    main([*config, "--run.overwrite=true", "--trainer.max_steps=2"])
    assert summary(tmp_path / "run")["steps"] == 2
    assert (tmp_path / "run" / "notes.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model.quantizer": "Int44"}, "model.quantizer: 'Int44' is not a known name; nearest: "),
        ({"model.perturber.init_args.eps": -1.0}, "eps must be a positive number"),
        ({"trainer.callbacks": [{"class_path": "ModelPruning"}]}, "trainer.callbacks"),
        ({}, "runs/recipe', which is not empty"),
    ],
)
def test_a_fault_of_the_recipe_is_told_before_one_of_the_folder(
    changes: dict[str, Any],
    sentence: str,
    finished: tuple[Path, str],
    tiny_llama: Path,
    films_csv: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = finished[0]
    file = write(changed(recipe(tiny_llama, films_csv), changes), folder.parent / "recipe.yaml")
    before = sorted(folder.rglob("*"))
    said = refusal(capsys, "fit", "--config", file, "--run.run_dir", str(folder))
    assert sentence in said
    assert sorted(folder.rglob("*")) == before


def test_print_config_writes_nothing(
    tmp_path: Path,
    tiny_llama: Path,
    films_csv: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write(recipe(tiny_llama, films_csv), tmp_path / "recipe.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", config, "--model.quantizer", "Int4", "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["quantizer"]["class_path"] == "zolit.Int4"
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_fast_dev_run_writes_nothing(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = write(recipe(tiny_llama, films_csv), tmp_path / "recipe.yaml")
    cli = run(args=["fit", "--config", config, "--trainer.fast_dev_run=2"])
    assert cli.trainer.global_step == 2
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


class ToyData(BoringDataModule):
    """Any LightningDataModule may stand in for the prompts."""


class ToyModel(BoringModel):
    """A module of the user's own, with figures of the usual names."""

    def __init__(self, source: ModelSource) -> None:
        super().__init__()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_accuracy", float(batch_idx))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_accuracy", 0.5)


class LossOnly(ToyModel):
    """Its loss falls where its accuracy does: best by one is worst by the other."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_accuracy", 1.0 / (1 + self.global_step))
        self.log("val_loss", 1.0 / (1 + self.global_step))


@pytest.mark.parametrize(("best_by", "step"), [("val_accuracy", 2), ("val_loss", 4)])
def test_the_figure_that_chooses_the_best_checkpoint(
    best_by: str, step: int, tmp_path: Path
) -> None:
    args = ["fit", "--data", f"{__name__}.ToyData", "--trainer.max_steps=4"]
    args += ["--trainer.val_check_interval=2", "--trainer.limit_val_batches=2"]
    args += ["--run.run_dir", str(tmp_path / "run"), "--run.best_by", best_by]
    run(model_class=LossOnly, args=[*args, "--model.source.path=none"])
    best = torch.load(tmp_path / "run" / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["global_step"] == step


@pytest.mark.parametrize("options", [[], ["--trainer.limit_val_batches=0"]])
def test_other_data_module_and_model(options: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run"
    args = ["fit", "--data", f"{__name__}.ToyData", "--trainer.max_steps=4"]
    args += ["--trainer.val_check_interval=2", "--trainer.limit_val_batches=2", *options]
    args += ["--trainer.limit_test_batches=2", "--run.run_dir", str(folder)]
    cli = run(model_class=ToyModel, args=[*args, "--model.source.path=none"])
    told = summary(folder)
    assert told["final"] == told["zero_shot"] == {"test_accuracy": 0.5}
    assert told["best_checkpoint"] == (None if options else "checkpoints/best.ckpt")
    assert isinstance(cli.datamodule, ToyData)


def test_a_users_callback_and_logger_replace_the_default(
    tmp_path: Path, tiny_llama: Path, films_csv: Path
) -> None:
    parts = {
        "trainer.callbacks": [{"class_path": "Progress", "init_args": {"every_n_steps": 2}}],
        "trainer.logger": False,
        "run.run_dir": str(tmp_path / "run"),
    }
    config = write(changed(recipe(tiny_llama, films_csv), parts), tmp_path / "recipe.yaml")
    cli = run(args=["fit", "--config", config])
    bars = [one for one in cli.trainer.callbacks if isinstance(one, Progress)]
    assert [bar.every_n_steps for bar in bars] == [2]
    assert any(isinstance(one, RunReport) for one in cli.trainer.callbacks)
    assert not (tmp_path / "run" / "metrics.csv").exists()


def test_the_global_generator_is_left_alone(
    tmp_path: Path, tiny_llama: Path, films_csv: Path
) -> None:
    config = write(recipe(tiny_llama, films_csv), tmp_path / "recipe.yaml")
    state = torch.get_rng_state()
    main(["fit", "--config", config, "--run.run_dir", str(tmp_path / "run")])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("sent", "code", "status"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "interrupted"),
        (signal.SIGKILL, -signal.SIGKILL, None),
    ],
)
def test_a_stopped_run_keeps_its_rows(
    sent: signal.Signals,
    code: int,
    status: str | None,
    tmp_path: Path,
    tiny_llama: Path,
    films_csv: Path,
) -> None:
    changes = {"trainer.max_steps": 100000, "trainer.val_check_interval": 4}
    config = write(changed(recipe(tiny_llama, films_csv), changes), tmp_path / "recipe.yaml")
    command = [sys.executable, "-u", "-m", "zolit.cli", "fit", "--config", config]
    command += ["--run.zero_shot=false", "--run.run_dir=run"]
    metrics = tmp_path / "run" / "metrics.csv"
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    # Tests started in the background inherit that Ctrl-C is ignored; a user's terminal does not.
    listening = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(  # noqa: S603
        command, cwd=tmp_path, preexec_fn=listening, **streams
    ) as process:
        while process.poll() is None:
            if metrics.exists() and metrics.read_text(encoding="utf-8").count("\n") > 8:
                os.kill(process.pid, sent)
                break
        try:
            _, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == code
    assert "Traceback" not in errors
    with metrics.open(encoding="utf-8") as file:
        assert sum(row["train_loss"] != "" for row in csv.DictReader(file)) >= 4
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").exists()
    journal = read_journal(tmp_path / "run" / "journal.bin")
    assert journal.fault is None
    assert journal.end >= 4
    if status is not None:
        told = summary(tmp_path / "run")
        assert told["status"] == status
        # The step that the signal came in was finished, and is the last one everywhere.
        assert told["steps"] == journal.end
        again = "zolit fit --resume run"
        assert f"zolit: stopped after step {journal.end}; go on with: {again}" in errors


def test_validate_and_predict(
    finished: tuple[Path, str], capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(finished[0] / "config.yaml")
    cli = run(args=["validate", "--config", config])
    assert "val_accuracy" in cli.trainer.callback_metrics
    assert isinstance(cli.trainer, L.Trainer)
    capsys.readouterr()
    run(args=["predict", "--config", config])
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    # The rows that were drawn for the test, by their numbers in the file.
    assert len(rows) == 16
    assert sorted(int(row["row"]) for row in rows) == [int(row["row"]) for row in rows]
    for row in rows:
        chances = {label: float(row[f"p_{label}"]) for label in ("rotten", "fresh")}
        assert sum(chances.values()) == pytest.approx(1, abs=1e-5)
        assert chances[row["label"]] == max(chances.values())
        assert row["word"] == {"rotten": "negative", "fresh": "positive"}[row["label"]]


class InterruptedHere(L.Callback):
    """Ctrl-C while the untuned model is tested."""

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        raise KeyboardInterrupt


def test_ctrl_c_before_the_first_step(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    changes = {"trainer.callbacks": [{"class_path": f"{__name__}.InterruptedHere"}]}
    config = write(changed(recipe(tiny_llama, films_csv), changes), tmp_path / "recipe.yaml")
    with pytest.raises(SystemExit) as end:
        main(["fit", "--config", config, "--run.run_dir", str(tmp_path / "run")])
    assert end.value.code == 130
    told = capfd.readouterr()
    assert "zolit: interrupted" in told.err
    assert "graceful" not in told.out + told.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("optimizer", "options", "queries", "sentence"),
    [
        ("ZOSGD", {"lr": -1.0}, 1, "lr must be a positive number, got -1"),
        ("ZOMomentum", {"momentum": 2.0}, 1, r"momentum must be in \[0, 1\), got 2"),
        ("ZOAdam", {}, 1, "ZOAdam needs an lr, got none.*try a hundredth of perturber.eps"),
        ("FZOO", {"lr": 0.1}, 1, "FZOO needs several directions a step"),
        ("ZOConservative", {"lr": 0.1}, 2, "ZOConservative reads the losses along one direction"),
    ],
)
def test_an_optimizer_is_refused_before_anything_is_loaded(
    optimizer: str, options: dict, queries: int, sentence: str, tmp_path: Path, films_csv: Path
) -> None:
    scheduler = {"class_path": "ConstantQueries", "init_args": {"n": queries}}
    changes = {
        "model.optimizer": {"class_path": optimizer, "init_args": options},
        "model.query_scheduler": scheduler,
    }
    no_model = tmp_path / "nothing"
    config = write(changed(recipe(no_model, films_csv), changes), tmp_path / "recipe.yaml")
    with pytest.raises(UserError, match=sentence):
        run(args=["fit", "--config", config])
