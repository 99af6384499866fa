"""Every shipped recipe, killed after some steps and resumed, ends as the run that was not."""

import csv
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from tiny_recipes import CONFIGS, IDS, ROOT, tiny_options

from zolit.cli import run
from zolit.runs.journal import Weights, read_journal

STEPS, VALIDATE = 7, 3
TIMES = ("step_ms", "seconds")
# One within the first epoch, one with a checkpoint, one after it.
MOMENTS = (1, 3, 5)
FIRST = sorted(name for name in IDS if name.startswith("configs/first_order/"))
KILLED_AT = dict(zip(IDS, [MOMENTS[n % 3] for n in range(len(IDS))], strict=True))


class KilledHere(BaseException):
    """Stands for the end of the process."""


class KillAfter(L.Callback):
    """Ends the run before its next step.

    Args:
        steps: made before.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.steps:
            raise KilledHere


def fit(config: Path, options: Path, folder: Path, *args: str) -> None:
    run(args=["fit", "--config", str(config), "--config", str(options), *args])
    journaled = str(config.relative_to(ROOT)) not in FIRST
    assert (folder / "journal.bin").exists() == journaled


def state(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    """Last checkpoint and metrics of a run, without what measures time."""
    saved = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = [
            {name: float(value) for name, value in row.items() if value and name not in TIMES}
            for row in csv.DictReader(file)
        ]
    return saved["state_dict"], rows


def parts(value: Any) -> list[str]:
    """Names of the classes in a part of a configuration, and of the options that have one."""
    if isinstance(value, list):
        return [name for one in value for name in parts(one)]
    if not isinstance(value, dict):
        return []
    here = [value["class_path"]] if "class_path" in value else []
    deeper = [[name, *found] for name, one in value.items() if (found := parts(one))]
    return [*here, *(name for found in deeper for name in found)]


def first_of_their_kind() -> set[str]:
    """Recipes that no earlier one resembles: the same classes, and a start of the same sort."""
    kinds: dict[Any, str] = {}
    for path, name in zip(CONFIGS, IDS, strict=True):
        model = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
        compiled = model.get("compile", "none"), model.get("dtype", "bfloat16")
        plain = tuple(key for key in model if not isinstance(model[key], dict))
        kinds.setdefault((tuple(parts(model)), compiled, plain), name)
    return set(kinds.values())


QUICK = first_of_their_kind()


def killed_run(
    path: Path, killed: int, folder: Path, llama: Path, roberta: Path
) -> tuple[Path, Path]:
    """A run, and another that is killed after some steps; its options and its folder."""
    options = tiny_options(path, folder, llama, roberta)
    options["trainer"] = {"max_steps": STEPS, "val_check_interval": VALIDATE}
    options["run"] = {"zero_shot": False, "test_after_fit": False}
    override = folder / "tiny.yaml"
    override.write_text(yaml.safe_dump(options), encoding="utf-8")
    whole, cut = folder / "whole", folder / "cut"
    fit(path, override, whole, "--run.run_dir", str(whole))
    kill = ["--trainer.callbacks+", f"{__name__}.KillAfter", f"--trainer.callbacks.steps={killed}"]
    with pytest.raises(KilledHere):
        fit(path, override, cut, "--run.run_dir", str(cut), *kill)
    return override, cut


@pytest.mark.parametrize(
    ("path", "killed"),
    [
        pytest.param(
            path,
            moment,
            id=f"{name}-{moment}",
            marks=() if moment == KILLED_AT[name] and name in QUICK else pytest.mark.slow,
        )
        for path, name in zip(CONFIGS, IDS, strict=True)
        for moment in MOMENTS
        if name not in FIRST
    ],
)
def test_resumed_is_undisturbed(
    path: Path, killed: int, tmp_path: Path, tiny_llama: Path, tiny_roberta: Path
) -> None:
    override, cut = killed_run(path, killed, tmp_path, tiny_llama, tiny_roberta)
    whole = tmp_path / "whole"
    assert read_journal(cut / "journal.bin").end == killed
    fit(path, override, cut, "--resume", str(cut))
    (weights, rows), (wanted, all_rows) = state(cut), state(whole)
    mine, theirs = (read_journal(folder / "journal.bin") for folder in (cut, whole))
    assert mine.fault is None
    assert mine.steps == theirs.steps
    assert len(mine.steps) == STEPS
    assert len({step.values for step in mine.steps}) == STEPS, "equal losses test nothing"
    digests = [
        {(one.step, one.digest, one.final) for one in found.records if isinstance(one, Weights)}
        for found in (mine, theirs)
    ]
    assert digests[0] == digests[1]
    assert len({digest for _, digest, _ in digests[1]}) > 1, "weights that stay test nothing"
    assert weights.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights.items())
    assert rows == all_rows


@pytest.mark.parametrize("name", FIRST)
def test_a_first_order_run_goes_on_from_its_last_checkpoint(
    name: str, tmp_path: Path, tiny_llama: Path, tiny_roberta: Path
) -> None:
    """That of step 3, or none where the run was killed before it; the steps are made again."""
    path = ROOT / name
    override, cut = killed_run(path, KILLED_AT[name], tmp_path, tiny_llama, tiny_roberta)
    assert (cut / "checkpoints" / "last.ckpt").exists() == (KILLED_AT[name] >= VALIDATE)
    fit(path, override, cut, "--resume", str(cut))
    (weights, rows), (wanted, all_rows) = state(cut), state(tmp_path / "whole")
    assert len({row["train_loss"] for row in rows if "train_loss" in row}) == STEPS
    assert weights.keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in weights.items())
    assert rows == all_rows
