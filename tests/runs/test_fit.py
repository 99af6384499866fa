"""The life of a run from Python: as the command line makes it, and resumed bit by bit."""

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from tiny_runs import STEPS, Kill, Killed, loader, module
from torch._dynamo.exc import TorchDynamoException

from zolit.callbacks.defaults import default_callbacks
from zolit.checkpoints.file import FileCheckpoints
from zolit.errors import UserError
from zolit.runs.fit import fit
from zolit.runs.folder import RunFolder, RunOptions, summary_of
from zolit.runs.journal import read_journal
from zolit.runs.keeping import StopRequested
from zolit.runs.metrics_file import csv_logger


class Data(L.LightningDataModule):
    """Rows of the tiny runs, also for validation and tests."""

    def train_dataloader(self) -> Any:
        return loader()

    def val_dataloader(self) -> Any:
        return loader()

    def test_dataloader(self) -> Any:
        return loader()


def trainer(folder: RunFolder, *callbacks: L.Callback) -> L.Trainer:
    return L.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        max_epochs=-1,
        val_check_interval=4,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        enable_model_summary=False,
        inference_mode=False,
        logger=csv_logger(folder.path),
        default_root_dir=folder.path,
        callbacks=[*default_callbacks(folder, progress=False), *callbacks],
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict[str, Any]]:
    folder = RunFolder(tmp_path_factory.mktemp("fit") / "run")
    return folder, fit(trainer(folder), module(), Data(), folder)


def test_a_run_keeps_what_the_command_line_keeps(
    whole: tuple[RunFolder, dict[str, Any]],
) -> None:
    folder, summary = whole
    assert summary["status"] == "finished"
    assert summary["steps"] == STEPS
    assert summary["zero_shot"].keys() == summary["final"].keys()
    assert json.loads(folder.summary.read_text())["final"] == summary["final"]
    assert folder.metrics.is_file()
    assert {one.name for one in folder.checkpoints.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not folder.config.exists(), "a run from Python has no recipe"
    assert read_journal(folder.journal).end == STEPS


def test_a_killed_run_goes_on_to_the_same_weights(
    whole: tuple[RunFolder, dict[str, Any]], tmp_path: Path
) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(Killed):
        fit(trainer(folder, Kill("on_train_batch_start", 9)), module(), Data(), folder)
    summary = fit(trainer(folder), module(), Data(), folder, resume=True)
    assert summary["steps"] == STEPS
    assert summary["zero_shot"] == whole[1]["zero_shot"]
    mine, theirs = (
        torch.load(one.checkpoints / "last.ckpt", weights_only=True)["state_dict"]
        for one in (folder, whole[0])
    )
    assert all(torch.equal(tensor, mine[name]) for name, tensor in theirs.items())
    assert read_journal(folder.journal).steps == read_journal(whole[0].journal).steps


def test_a_folder_with_something_in_it_is_refused(
    whole: tuple[RunFolder, dict[str, Any]],
) -> None:
    folder = RunFolder(whole[0].path)
    before = summary_of(folder)
    options = RunOptions(zero_shot=False)
    with pytest.raises(UserError, match="which is not empty"):
        fit(trainer(folder), module(), Data(), folder, options)
    assert summary_of(folder) == before


def test_a_second_run_is_refused_before_it_measures(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")

    class Second(Data):
        """Starts another run in the folder while the first one prepares."""

        def prepare_data(self) -> None:
            other = RunFolder(folder.path)
            with pytest.raises(UserError, match="another process is writing to"):
                fit(trainer(other), module(), Data(), other)
            raise UserError("rows: none")

    with pytest.raises(UserError, match="rows: none"):
        fit(trainer(folder), module(), Second(), folder)
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_are_whole_or_not_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    options = RunOptions(zero_shot=False, test_after_fit=False)
    made = trainer(folder)
    assert fit(made, module(), Data(), folder, options)["final"] is None
    assert isinstance(made.strategy.checkpoint_io, FileCheckpoints)


def test_fewer_steps_than_were_made_are_refused(
    whole: tuple[RunFolder, dict[str, Any]], tmp_path: Path
) -> None:
    shutil.copytree(whole[0].path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    before = folder.journal.read_bytes()
    short = trainer(folder)
    short.fit_loop.epoch_loop.max_steps = 2
    with pytest.raises(UserError, match=f"max_steps: got 2, but .* has made {STEPS} steps"):
        fit(short, module(), Data(), folder, resume=True)
    assert folder.journal.read_bytes() == before


class CompilerEnds(L.Callback):
    """A signal asks for the end, and ends the compiler that the step waits for."""

    def __init__(self, asked: bool) -> None:
        self.asked = asked

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == 2:
            if self.asked:
                signal.raise_signal(signal.SIGTERM)
            raise TorchDynamoException("g++ was terminated")


def test_a_signal_that_ends_the_compiler_too_is_a_stop(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(StopRequested) as stop:
        fit(trainer(folder, CompilerEnds(asked=True)), module(), Data(), folder)
    assert (stop.value.signal, stop.value.step) == (signal.SIGTERM, 2)
    assert "zolit: stopped after step 2" in capfd.readouterr().err
    assert len(read_journal(folder.journal).steps) == 2


def test_a_compiler_that_fails_by_itself_is_no_stop(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(TorchDynamoException):
        fit(trainer(folder, CompilerEnds(asked=False)), module(), Data(), folder)
