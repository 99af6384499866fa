"""``zolit fit --find_lr`` on the command line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main


@pytest.fixture
def config(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.chdir(tmp_path)
    changes = {"run.zero_shot": False, "run.test_after_fit": False, "run.run_dir": "run"}
    return write(changed(recipe(tiny_llama, films_csv), changes), tmp_path / "recipe.yaml")


def proposed(shown: str) -> tuple[float, float]:
    """lr and eps that the output tells how to take over."""
    found = re.search(r"--model.optimizer.lr (\S+) --model.perturber.eps (\S+);", shown)
    assert found is not None, shown
    return float(found[1]), float(found[2])


def test_tells_and_stops(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--config", config, "--find_lr"])
    shown = capsys.readouterr().out
    lr, eps = proposed(shown)
    assert lr > 0
    assert eps > 0
    for told in ("12 directions", "forward passes", "rounding", "3 steps", "--find_lr use"):
        assert told in shown
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


def test_the_run_begins_with_them(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", "--config", config, "--find_lr"])
    told = proposed(capsys.readouterr().out)
    main(["fit", "--config", config, "--find_lr", "use"])
    assert proposed(capsys.readouterr().out) == told
    kept: dict[str, Any] = yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))
    options = kept["model"]["optimizer"]["init_args"], kept["model"]["perturber"]["init_args"]
    assert (options[0]["lr"], options[1]["eps"]) == told
    assert kept["find_lr"] is None
    # The same run by its numbers alone, and the first one resumed from its own configuration.
    lr, eps = map(str, told)
    given = ["--model.optimizer.lr", lr, "--model.perturber.eps", eps, "--run.run_dir", "other"]
    main(["fit", "--config", config, *given])
    states = [
        torch.load(f"{folder}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for folder in ("run", "other")
    ]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    main(["fit", "--resume", "run", "--trainer.max_steps", "5"])
    assert json.loads(Path("run/summary.json").read_text(encoding="utf-8"))["steps"] == 5


def test_a_recipe_that_names_no_rate(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Optimizer and eps left open: the numbers stand in config.yaml all the same."""
    base = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
    del base["model"]["optimizer"]
    base["model"]["perturber"] = "ScalePerturber"
    Path(config).write_text(yaml.safe_dump(base), encoding="utf-8")
    main(["fit", "--config", config, "--find_lr", "use"])
    told = proposed(capsys.readouterr().out)
    kept: dict[str, Any] = yaml.safe_load(Path("run/config.yaml").read_text(encoding="utf-8"))
    options = kept["model"]["optimizer"]["init_args"], kept["model"]["perturber"]["init_args"]
    assert (options[0]["lr"], options[1]["eps"]) == told


def test_a_mask_that_scores_leaves_nothing(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sparse = ["--model.perturber", "SparsePerturber", "--model.mask", "Sensitive"]
    sparse += ["--model.mask.fraction", "0.01"]
    main(["fit", "--config", config, "--find_lr", *sparse])
    proposed(capsys.readouterr().out)
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.yaml"]


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--find_lr", "often"], "find_lr"),
        (["--find_lr", "--resume", "run"], "find_lr"),
        (["--find_lr", "--model.class_path", "FirstOrderModule"], "FirstOrderModule"),
    ],
)
def test_refused(
    more: list[str], named: str, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if "FirstOrderModule" in more:
        base = yaml.safe_load(Path(config).read_text(encoding="utf-8"))
        base["model"] = {
            "class_path": "FirstOrderModule",
            "source": base["model"]["source"],
            "quantizer": "NoQuantizer",
            "optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.1}},
            "dtype": "float32",
        }
        Path(config).write_text(yaml.safe_dump(base), encoding="utf-8")
        more = ["--find_lr"]
    assert named in refusal(capsys, "fit", "--config", config, *more)
    assert not Path("run").exists()


def test_other_commands_refuse_it(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "find_lr" in refusal(capsys, "test", "--config", config, "--find_lr", "tell")
