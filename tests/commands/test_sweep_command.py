"""``zolit sweep`` from a recipe to the best point's recipe; refused, killed and gone on with."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import yaml
from cli_recipe import DELETE, changed, recipe, refusal, write

from zolit.cli import main
from zolit.comparison.compare import compare
from zolit.runs.folder import RunFolder

LONGER = {
    "trainer.max_steps": 6,
    "trainer.val_check_interval": 1,
    "trainer.check_val_every_n_epoch": None,
    "trainer.enable_progress_bar": False,
}


class DieOnce(L.Callback):
    """The process ends in the third step of the run, unless it did so before.

    Args:
        note: a file that is there once it has.
    """

    def __init__(self, note: str) -> None:
        self.note = Path(note)

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == 2 and not self.note.exists():
            self.note.touch()
            raise Killed


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def config(tmp_path: Path, tiny_llama: Path, films_csv: Path) -> Path:
    return Path(write(changed(recipe(tiny_llama, films_csv), LONGER), tmp_path / "recipe.yaml"))


def summaries(folder: Path) -> dict[str, dict[str, Any]]:
    files = sorted(folder.glob("*/summary.json"))
    return {file.parent.name: json.loads(file.read_text(encoding="utf-8")) for file in files}


def figures(folder: Path) -> dict[str, Any]:
    names = ("steps", "best", "validation", "zero_shot", "final", "forwards")
    return {point: {name: one[name] for name in names} for point, one in summaries(folder).items()}


def test_a_sweep_ends_with_the_recipe_of_the_best_point(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "sweep"
    args = ["--config", str(config), "--grid", "lr=0.001,1e4,seed=0,1", "--sweep.reduction", "2"]
    main(["sweep", *args, "--run.run_dir", str(folder)])
    printed = capsys.readouterr().out
    found = summaries(folder)
    assert all(one["zero_shot"] is one["final"] is None for one in found.values())
    # Two choices of two seeds, a reduction of two: one of them goes on after half of the steps.
    assert sorted(one["steps"] for one in found.values()) == [3, 3, 6, 6]
    assert printed.count("stopped: lr") == 2
    best = yaml.safe_load((folder / "best.yaml").read_text(encoding="utf-8"))
    lr = best["model"]["optimizer"]["init_args"]["lr"]
    assert best["trainer"]["max_steps"] == 6
    assert best["run"]["zero_shot"] is best["run"]["test_after_fit"] is True
    wanted = [name for name, one in found.items() if one["steps"] == 6]
    assert {float(name.split("=")[1].split(",")[0]) for name in wanted} == {lr}
    seeds = [
        yaml.safe_load(RunFolder(folder / name).config.read_text(encoding="utf-8"))
        for name in wanted
    ]
    assert [(one["model"]["seed"], one["data"]["init_args"]["seed"]) for one in seeds] == [
        (0, 0),
        (1, 1),
    ]
    known = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))["known"]
    losses: dict[float, list[float]] = {}
    for name, stops in known.items():
        chosen = float(name.split("=")[1].split(",")[0])
        losses.setdefault(chosen, []).append(stops["3"]["last"]["val_loss"] or math.inf)
    assert min(losses, key=lambda one: sum(losses[one])) == lr

    # The recipe makes the same run, now with tests; and the points are ordinary runs.
    main(["fit", "--config", str(folder / "best.yaml"), "--run.run_dir", str(tmp_path / "best")])
    again = json.loads((tmp_path / "best" / "summary.json").read_text(encoding="utf-8"))
    assert again["best"] == found[wanted[0]]["best"]
    assert again["final"]
    assert again["forwards"] == found[wanted[0]]["forwards"] == 12
    assert [len(line.records) for line in compare([folder]).lines] == [2, 2]


def test_a_killed_sweep_goes_on_from_another_folder(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With relative paths; the killed run goes on at its step, not at its start."""
    monkeypatch.chdir(tmp_path)
    rows = {"class_path": "FileRows", "init_args": {"path": os.path.relpath(films_csv)}}
    die = {"class_path": f"{__name__}.DieOnce", "init_args": {"note": str(tmp_path / "died")}}
    changes = {"data.init_args.rows": rows, "trainer.callbacks": [die], **LONGER}
    base = recipe(Path("unused"), films_csv)
    config = write(changed(base, changes), tmp_path / "recipe.yaml")
    source = ["--model.source.path", os.path.relpath(tiny_llama)]
    args = ["--config", config, *source, "--grid", "lr=0.01,1", "--sweep.reduction", "2"]
    with pytest.raises(Killed):
        main(["sweep", *args, "--run.run_dir", "sweep"])
    steps = len((tmp_path / "sweep" / "lr=0.01" / "metrics.csv").read_text().splitlines())
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    main(["sweep", "--resume", "../sweep"])
    assert steps > 1, "the killed run had made steps"
    whole = tmp_path / "whole"
    monkeypatch.chdir(tmp_path)
    main(["sweep", *args, "--run.run_dir", str(whole)])
    assert figures(tmp_path / "sweep") == figures(whole)


FIRST: dict[str, Any] = {
    "model.class_path": "FirstOrderModule",
    "model.perturber": DELETE,
    "model.quantizer": {"class_path": "NoQuantizer"},
    "model.optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-3}},
}


def test_first_order_recipes(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = changed(recipe(tiny_llama, films_csv), {**LONGER, **FIRST})
    config = write(base, tmp_path / "recipe.yaml")
    folder = tmp_path / "sweep"
    options = ["--sweep.reduction", "2", "--run.run_dir", str(folder)]
    main(["sweep", "--config", config, "--grid", "optimizer.lr=1e-5,1e-3", *options])
    assert sorted(one["steps"] for one in summaries(folder).values()) == [3, 6]
    assert "the best" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("grid", "sentence"),
    [
        ("lrr=1,2", "--grid: lrr is no option of this recipe; nearest: model.optimizer.lr"),
        ("path=a,b", "--grid: got 'path', which may be data.rows.path or model.source.path; write"),
        ("window=3,4", "--grid: window is no option of this recipe; nearest: "),
        ("max_steps=1,2", "which is trainer.max_steps; a sweep sets it itself"),
        ("run.best_by=a,b", "a sweep sets it itself"),
        ("model.optimizer.lrr=1,2", "--grid: model.optimizer.lrr is no option of this recipe; "),
        ("lr=0.1,high", "model.optimizer.lr: got "),
        ("lr=0.1,-1", "lr must be"),
        ("quantizer=Int8,Int5", "model.quantizer: 'Int5' is not a known name"),
        ("lr", "expected KEY=VALUE,VALUE"),
    ],
)
def test_grids_are_refused_before_anything_runs(
    tmp_path: Path, config: Path, capsys: pytest.CaptureFixture[str], grid: str, sentence: str
) -> None:
    folder = tmp_path / "sweep"
    args = ["--config", str(config), "--run.run_dir", str(folder), "--grid", grid]
    assert sentence in refusal(capsys, "sweep", *args)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--trainer.max_steps", "-1"], "trainer.max_steps: got -1, expected the steps of a point"),
        (["--find_lr", "use"], "find_lr: goes with one run of zolit fit"),
        (["--run.journal", "false"], "with which no run can be taken up again"),
        (["--trainer.limit_val_batches", "0"], "trainer.limit_val_batches: got 0, but points are"),
        (["--sweep.reduction", "1"], "sweep.reduction: got 1, expected 2 or more"),
        (["--sweep.stopping", "median"], "argument --sweep.stopping: invalid choice: 'median'"),
        (["--resume", "runs/x"], "beside other options"),
        (["--optimizer", "x"], "unknown option optimizer"),
    ],
)
def test_options_that_do_not_fit(
    tmp_path: Path,
    config: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    place = ["--run.run_dir", str(tmp_path / "sweep")]
    args = ["--config", str(config), "--grid", "lr=0.1,1", *place, *options]
    assert sentence in refusal(capsys, "sweep", *args)


def test_a_folder_with_a_sweep_is_not_begun_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--grid: is missing" in refusal(capsys, "sweep", "--config", str(tmp_path))
    assert "holds no sweep" in refusal(capsys, "sweep", "--resume", str(tmp_path))


def test_the_help_waits_for_no_library(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["sweep", "--help"])
    assert stop.value.code == 0
    assert "--grid KEY=V,V,..." in capsys.readouterr().out


@pytest.mark.slow
def test_killed_by_the_system_at_many_moments(tmp_path: Path, config: Path) -> None:
    """SIGKILL after so many files have appeared, wherever the process is then."""
    args = ["--config", str(config), "--grid", "lr=0.001,0.01,0.1", "--sweep.first_steps", "2"]
    program = [sys.executable, "-m", "zolit.cli", "sweep"]

    def begin(folder: Path) -> list[str]:
        return [*program, *args, "--run.run_dir", str(folder)]

    subprocess.run(begin(tmp_path / "whole"), check=True, timeout=600)  # noqa: S603
    count = len(list((tmp_path / "whole").rglob("*")))
    folder = tmp_path / "killed"
    command = begin(folder)
    for files in range(4, count, 6):
        process = subprocess.Popen(command)  # noqa: S603
        while process.poll() is None and len(list(folder.rglob("*"))) < files:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (folder / "sweep.json").exists():
            command = [*program, "--resume", str(folder)]
    subprocess.run(command, check=True, timeout=600)  # noqa: S603
    assert figures(folder) == figures(tmp_path / "whole")
    assert (folder / "best.yaml").is_file()
