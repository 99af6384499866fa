"""What a run costs besides its task: a general text and the way of the weights, by option."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_recipe import DELETE, changed, recipe, refusal, write

from zolit.cli import main

TEXT = "the film is bright and short and dull and long " * 40
FIRST: dict[str, Any] = {
    "model.class_path": "FirstOrderModule",
    "model.perturber": DELETE,
    "model.quantizer": {"class_path": "NoQuantizer"},
    "model.optimizer": {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.05}},
}


@pytest.fixture
def base(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    Path("general.txt").write_text(TEXT, encoding="utf-8")
    options = {"run.general_text": "general.txt", "run.weights_moved": True, "run.run_dir": "run"}
    return changed(recipe(tiny_llama, films_csv), options)


def summary(folder: str = "run") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(folder, "summary.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("changes", [{}, FIRST], ids=["zero order", "first order"])
def test_measured_and_shown(
    changes: dict[str, Any], base: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    main(["fit", "--config", write(changed(base, changes), Path("recipe.yaml"))])
    shown = capsys.readouterr().out
    found = summary()
    text, moved = found["general_text"], found["weights_moved"]
    assert text["text"] == "general.txt"
    assert text["zero_shot"] > 1
    assert text["fine_tuned"] > 1
    assert text["fine_tuned"] != text["zero_shot"]
    assert f"{text['zero_shot']:.4f}" in shown
    assert moved["all"] > 0
    assert "q_proj" in moved
    assert "all steps moved the weights by" in shown
    # The best checkpoint beside the start, tensor by tensor.
    start = torch.load("run/start.ckpt", weights_only=True)
    best = torch.load("run/checkpoints/best.ckpt", weights_only=True)["state_dict"]
    assert start.keys() == best.keys()
    if changes:
        change = sum(float((best[n].double() - start[n].double()).square().sum()) for n in start)
        size = sum(float(start[n].double().square().sum()) for n in start)
        assert moved["all"] == pytest.approx((change / size) ** 0.5, rel=1e-6)


def test_nothing_is_measured_unasked(base: dict[str, Any]) -> None:
    changes = {"run.general_text": None, "run.weights_moved": False}
    main(["fit", "--config", write(changed(base, changes), Path("recipe.yaml"))])
    assert summary()["general_text"] is None
    assert summary()["weights_moved"] is None
    assert not Path("run/start.ckpt").exists()
    assert not Path("run/start.json").exists()


def test_another_run_in_its_place_removes_it(base: dict[str, Any]) -> None:
    """Nothing of the run before can be taken for this one's start."""
    config = write(base, Path("recipe.yaml"))
    main(["fit", "--config", config])
    assert Path("run/start.ckpt").is_file()
    alone = ["--run.general_text", "null", "--run.weights_moved", "false"]
    main(["fit", "--config", config, "--run.overwrite", "true", *alone])
    assert not Path("run/start.ckpt").exists()
    assert not Path("run/start.json").exists()


def test_a_resumed_run_compares_with_its_own_start(base: dict[str, Any]) -> None:
    config = write(base, Path("recipe.yaml"))
    main(["fit", "--config", config])
    main(["fit", "--resume", "run", "--trainer.max_steps", "6"])
    six = ["--trainer.max_steps", "6", "--run.run_dir", "whole"]
    main(["fit", "--config", config, *six])
    one, two = summary(), summary("whole")
    assert one["steps"] == two["steps"] == 6
    assert one["general_text"] == two["general_text"]
    assert one["weights_moved"] == two["weights_moved"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"run.general_text": "none.txt"}, ("run.general_text", "none.txt")),
        ({"run.general_text_package": "scattertxt"}, ("scattertxt", "not installed")),
    ],
)
def test_refused(
    changes: dict[str, Any],
    named: tuple[str, ...],
    base: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = write(changed(base, changes), Path("recipe.yaml"))
    sentence = refusal(capsys, "fit", "--config", config)
    assert all(word in sentence for word in named), sentence
    assert not Path("run").exists()


def test_a_masked_model_is_refused(
    base: dict[str, Any], tiny_roberta: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"model.source": {"path": str(tiny_roberta)}}
    config = write(changed(base, changes), Path("recipe.yaml"))
    assert "masked" in refusal(capsys, "fit", "--config", config)
