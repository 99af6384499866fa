"""``zolit prune`` from start to end: figures, files, kills, refusals, and what comes after."""

import json
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
import yaml
from cli_recipe import changed, refusal, write
from tiny_pruning import data_of, module_of, write_text
from transformers import AutoModelForCausalLM

import zolit
from zolit.calibration.options import CalibrationText
from zolit.cli import main
from zolit.errors import UserError
from zolit.models.loading.load import load_model
from zolit.models.source import ModelSource
from zolit.runs.folder import RunFolder
from zolit.runs.prune import find_windows
from zolit.strategies import RegionalGradients, SparseGPT, Wanda
from zolit.strategies.mask.choice_file import read_choice, read_choice_facts
from zolit.training.pruning import PruningModule

PRUNERS = {"Wanda": Wanda, "RegionalGradients": RegionalGradients, "SparseGPT": SparseGPT}


class KilledHere(BaseException):
    """Stands for the end of the process."""


class KillAt(L.Callback):
    """Ends the run when so many blocks are done."""

    def __init__(self, blocks: int) -> None:
        self.blocks = blocks

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == self.blocks:
            raise KilledHere


@pytest.fixture
def text(tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_text(tmp_path / "own.txt")


@pytest.fixture
def recipe(text: Path, tiny_llama: Path) -> dict[str, Any]:
    return {
        "model": {
            "class_path": "PruningModule",
            "source": {"path": str(tiny_llama)},
            "pruner": "Wanda",
            "pattern": {"class_path": "NofM", "init_args": {"n": 2, "m": 4}},
            "calibration": {"text": str(text), "samples": 5, "length": 24},
            "dtype": "float32",
        },
        "data": {
            "class_path": "TextDataModule",
            "init_args": {"test_text": str(text), "length": 24, "test_windows": 8},
        },
        "trainer": {"enable_progress_bar": False},
    }


def weights(run: Path) -> dict[str, torch.Tensor]:
    found = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return {name.removesuffix(".weight"): one for name, one in found.items()}


def test_a_run_from_the_command_line(
    recipe: dict[str, Any], tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["prune", "--config", write(recipe, Path("pruned.yaml"))])
    said = capsys.readouterr().out
    assert "dense: test loss" in said
    assert "pruned: test loss" in said
    assert "2 blocks pruned (2:4)" in said
    run = RunFolder("runs/pruned")
    there = sorted(one.name for one in run.path.iterdir() if not one.name.startswith("."))
    wanted = ["checkpoints", "config.yaml", "metrics.csv", "summary.json", "support.safetensors"]
    assert there == wanted
    summary = json.loads(run.summary.read_text())
    assert (summary["status"], summary["steps"], summary["zeros"]) == ("finished", 2, 0.5)
    assert summary["pruner"] == "Wanda()"
    before, after = summary["zero_shot"], summary["final"]
    assert before["test_perplexity"] != after["test_perplexity"]
    assert [one["path"] for one in summary["blocks"]] == ["model.layers.0", "model.layers.1"]
    assert all(0 < one["output_error"] < 1 for one in summary["blocks"])

    dense = dict(load_model(ModelSource(str(tiny_llama)), torch.float32).named_parameters())
    facts = read_choice_facts(str(run.support), "", "")
    assert len(facts.shapes) == 14
    for path, value in weights(run.path).items():
        kept = read_choice(str(run.support), path, facts.shapes[path]).chosen()
        assert torch.equal(value, dense[path] * kept)  # what is left is as it was
        assert (kept.view(len(kept), -1, 4).sum(2) == 2).all()

    main(["runs", "--json"])
    [listed] = map(json.loads, capsys.readouterr().out.splitlines())
    assert (listed["state"], listed["steps"]) == ("finished", 2)
    main(["test", "--config", "runs/pruned/config.yaml", "--ckpt_path", "last"])
    assert f"{after['test_perplexity']:.4f}" in capsys.readouterr().out

    main(["export", "runs/pruned", "--to", "model"])
    again = AutoModelForCausalLM.from_pretrained("model", dtype=torch.float32)
    for path, value in weights(run.path).items():
        assert torch.equal(again.get_parameter(path), value)
    card = Path("model/README.md").read_text()
    for line in ("| pattern | 2:4 |", "| pruner | Wanda() |", "| calibration text | own.txt |"):
        assert line in card
    assert f"| test perplexity | {before['test_perplexity']:.4f} |" in card
    assert str(Path.cwd()) not in card


@pytest.mark.parametrize("activations", ["memory", "disk"])
@pytest.mark.parametrize("name", PRUNERS)
def test_a_killed_run_goes_on_at_its_block(
    name: str, activations: Any, text: Path, tiny_llama: Path
) -> None:
    def made() -> PruningModule:
        return module_of(text, tiny_llama, PRUNERS[name](), activations=activations)

    quiet = {"enable_progress_bar": False}
    data = data_of(text, tiny_llama)
    whole = zolit.prune(made(), data, "whole", **quiet)
    with pytest.raises(KilledHere):
        zolit.prune(made(), data, "killed", callbacks=(KillAt(1),), **quiet)
    assert [one.name for one in Path("killed/blocks").glob("*.safetensors")] == [
        "block-0000.safetensors"
    ]
    with pytest.raises(UserError, match="which is not empty"):
        zolit.prune(made(), data, "killed", **quiet)
    summary = zolit.prune(made(), data, "killed", resume=True, **quiet)
    assert summary["zero_shot"] == whole["zero_shot"]
    assert summary["final"] == whole["final"]
    assert [one["output_error"] for one in summary["blocks"]] == [
        one["output_error"] for one in whole["blocks"]
    ]
    mine, theirs = weights(Path("killed")), weights(Path("whole"))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(one, theirs[path]) for path, one in mine.items())
    one, two = (Path(run, "support.safetensors").read_bytes() for run in ("killed", "whole"))
    assert one == two
    assert zolit.prune(made(), data, "killed", resume=True, **quiet) == summary


def test_a_run_is_resumed_with_its_own_options_alone(
    recipe: dict[str, Any], text: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(recipe, Path("pruned.yaml"))
    other = changed(
        recipe,
        {"trainer.callbacks": [{"class_path": "test_prune.KillAt", "init_args": {"blocks": 1}}]},
    )
    with pytest.raises(KilledHere):
        main(["prune", "--config", write(other, Path("killed.yaml")), "--run.run_dir", "run"])
    capsys.readouterr()
    kept = yaml.safe_load(Path("run/config.yaml").read_text())
    assert kept["model"]["calibration"]["text"] == str(text)
    for option, name in (
        (["--model.pruner", "SparseGPT"], "pruner"),
        (["--model.pattern.n", "1"], "pattern"),
        (["--model.calibration.seed", "1"], "text"),
        (["--model.dtype", "bfloat16"], "dtype"),
    ):
        said = refusal(capsys, "prune", "--config", file, "--resume", "run", *option)
        assert f"were pruned with another {name}" in said
    main(["prune", "--config", file, "--resume", "run"])
    assert "going on after 1 blocks" in capsys.readouterr().err
    rows = Path("run/metrics.csv").read_text().splitlines()
    assert len(rows) == 3
    main(["prune", "--resume", "run"])
    assert "run: finished, nothing to do" in capsys.readouterr().out


def test_the_seed_draws_the_windows(text: Path, tiny_llama: Path) -> None:
    def ids(seed: int) -> list[list[int]]:
        asked = CalibrationText(str(text), samples=5, length=24, seed=seed)
        return [
            one.ids.tolist() for one in find_windows(module_of(text, tiny_llama, calibration=asked))
        ]

    assert ids(0) == ids(0) != ids(1)
    assert len({tuple(one) for one in ids(0)}) == 5


def test_a_model_that_was_tuned_is_pruned(
    recipe: dict[str, Any], text: Path, tiny_llama: Path
) -> None:
    one = load_model(ModelSource(str(tiny_llama)), torch.float32)
    tuned = zolit.FirstOrderModule(
        ModelSource(str(tiny_llama)),
        zolit.NoQuantizer(),
        objective=zolit.LanguageModeling(),
        optimizer=lambda params: torch.optim.SGD(params, lr=1.0),
        dtype="float32",
    )
    data = zolit.TextDataModule(
        source=ModelSource(str(tiny_llama)),
        text=str(text),
        length=24,
        train_windows=16,
        validation_windows=0,
        test_windows=0,
        batch_size=4,
    )
    quiet = {"enable_progress_bar": False, "limit_val_batches": 0}
    zolit.fit(tuned, data, "tuned", max_steps=2, **quiet)
    start = "tuned/checkpoints/last.ckpt"
    pruned = module_of(text, tiny_llama, start_from=start)
    zolit.prune(pruned, data_of(text, tiny_llama), "pruned", enable_progress_bar=False)
    before = torch.load(start, weights_only=True)["state_dict"]
    for path, value in weights(Path("pruned")).items():
        assert not torch.equal(value, one.get_parameter(path) * (value != 0))
        assert torch.equal(value, before[f"{path}.weight"] * (value != 0))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.pattern.init_args.n": 5}, "n: got 5, expected how many of m=4 entries are left"),
        ({"model.pattern.init_args.m": 5}, "m: got 5, which does not divide the 64 input channels"),
        ({"model.calibration.text": None}, "model.calibration.text: got none, expected a file"),
        ({"model.calibration.text": "no.txt"}, "text must be a file of calibration text, got"),
        ({"model.calibration.samples": 9999}, "samples=9999 windows of length=24 need 239976"),
        ({"model.calibration.samples": 0}, "calibration.samples: got 0, expected at least 1"),
        (
            {"model.calibration.length": 99},
            "calibration.length: got 99, the model reads at",
        ),
        ({"trainer.max_steps": 1}, "trainer.max_steps: got 1, but pruning makes one step for each"),
        (
            {"model.class_path": "ZeroOrderModule"},
            "model.class_path: got ZeroOrderModule with",
        ),
        ({"model.activations": "tape"}, "activations"),
    ],
)
def test_refusals_leave_nothing(
    recipe: dict[str, Any],
    changes: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = write(changed(recipe, changes), Path("bad.yaml"))
    before = sorted(Path().rglob("*"))
    assert message in refusal(capsys, "prune", "--config", file)
    assert sorted(Path().rglob("*")) == before


def test_a_ratio_that_is_none(recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    one = changed(recipe, {"model.pattern": {"class_path": "Ratio", "init_args": {"ratio": 1.0}}})
    assert "ratio: got 1.0" in refusal(capsys, "prune", "--config", write(one, Path("bad.yaml")))


def test_a_block_that_gives_nan_is_named_and_nothing_is_left(
    recipe: dict[str, Any], tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(tiny_llama)
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight[0, 0] = torch.nan
    model.save_pretrained("nan")
    for file in tiny_llama.glob("*token*"):
        Path("nan", file.name).write_bytes(file.read_bytes())
    one = changed(recipe, {"model.source.path": "nan", "run": {"zero_shot": False}})
    file = write(one, Path("bad.yaml"))
    before = sorted(Path().rglob("*"))
    assert "model.layers.0 gives hidden states that are NaN" in refusal(
        capsys, "prune", "--config", file
    )
    assert sorted(Path().rglob("*")) == before


def test_a_refused_run_leaves_the_one_that_it_would_have_replaced(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(recipe, Path("pruned.yaml"))
    quick = ["--run.run_dir", "run", "--run.zero_shot", "false", "--run.test_after_fit", "false"]
    main(["prune", "--config", file, *quick])
    before = {one: one.stat().st_mtime_ns for one in Path("run").rglob("*") if one.is_file()}
    bad = ["--run.overwrite", "true", "--model.pattern.m", "5"]
    assert "does not divide" in refusal(capsys, "prune", "--config", file, *quick, *bad)
    after = {one: one.stat().st_mtime_ns for one in Path("run").rglob("*") if one.is_file()}
    assert {one for one in after if one.name.startswith(".")} | before.keys() == after.keys()
    assert all(after[one] == time for one, time in before.items() if not one.name.startswith("."))
    main(["prune", "--config", file, *quick, "--run.overwrite", "true", "--model.pattern.n", "1"])
    assert json.loads(Path("run/summary.json").read_text())["zeros"] == 0.75


def test_other_commands_refuse_the_module(
    recipe: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(recipe, Path("pruned.yaml"))
    for command in ("fit", "estimate", "saliency", "validate"):
        said = refusal(capsys, command, "--config", file)
        assert f"got PruningModule with zolit {command}" in said
