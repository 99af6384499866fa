"""Tasks of the harness's own format, from their YAML and rows on disk to figures."""

import json
from pathlib import Path
from typing import Any

import lm_eval
import pytest
from cli_recipe import refusal
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

import zolit
from zolit.cli import main

NAMES = ["tiny_options", "tiny_text", "tiny_written"]


@pytest.fixture
def theirs(finished: Path, tasks: Path, tmp_path: Path) -> dict[str, Any]:
    """Figures of the harness's own model on the exported floats."""
    main(["export", str(finished), "--to", str(tmp_path / "model")])
    model = HFLM(pretrained=str(tmp_path / "model"), dtype="float32", device="cpu", batch_size=4)
    manager = TaskManager(include_path=str(tasks), include_defaults=False)
    return lm_eval.simple_evaluate(
        model=model, tasks=NAMES, task_manager=manager, log_samples=False, bootstrap_iters=0
    )["results"]


def test_figures_are_those_of_the_floats(
    finished: Path,
    tasks: Path,
    theirs: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to = tmp_path / "figures.json"
    names = ["--tasks", f"{NAMES[0]},{NAMES[1]}", NAMES[2]]
    more = ["--include", str(tasks), "--batch_size", "4", "--to", str(to)]
    main(["evaluate", str(finished), *names, *more])
    shown = capsys.readouterr()
    found = json.loads(to.read_text(encoding="utf-8"))
    assert "best.ckpt after step 3" in found["config"]["weights"]
    assert "best.ckpt after step 3" in shown.err
    assert set(found["results"]) == set(NAMES)
    for name in NAMES:
        assert name in shown.out
        figures = {k: v for k, v in theirs[name].items() if "," in k and "stderr" not in k}
        assert len(figures) >= 1
        for key, value in figures.items():
            assert found["results"][name][key] == pytest.approx(value, rel=1e-4), key


def test_from_python_with_shots_and_a_limit(finished: Path, tasks: Path) -> None:
    found = zolit.evaluate(finished, ["tiny_options"], include=tasks, num_fewshot=1, limit=5)
    assert found["n-shot"]["tiny_options"] == 1
    assert found["n-samples"]["tiny_options"]["effective"] == 5


def test_a_task_by_its_file(finished: Path, tasks: Path) -> None:
    file = str(tasks / "tiny_options.yaml")
    found = zolit.evaluate(finished, [file], include=tasks, limit=2, base=True)
    assert "that" in found["config"]["weights"]
    assert set(found["results"]) == {"tiny_options"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tasks", "tiny_option"], "tasks: there is no 'tiny_option'; nearest: tiny_options"),
        (["--tasks", ","], "tasks: got none"),
        (["--tasks", "tiny_options", "--limit", "0"], "limit: got 0"),
        (["--tasks", "tiny_options", "--num_fewshot", "-1"], "num_fewshot: got -1"),
        (["--tasks", "tiny_options", "--chat"], "chat: the model's tokenizer has no chat template"),
        (["--tasks", "tiny_options", "--to", "no/such/folder/f"], "--to: got 'no/such/folder/f'"),
        (["--tasks", "broken"], "tasks: broken cannot be loaded (FileNotFoundError"),
        (["--tasks", "unfit"], "tasks: a template does not fit the rows"),
    ],
)
def test_what_is_refused(
    finished: Path,
    tasks: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    options_of = (tasks / "tiny_options.yaml").read_text(encoding="utf-8")
    broken = options_of.replace("tiny_options", "broken").replace("rows.jsonl", "absent.jsonl")
    (tasks / "broken.yaml").write_text(broken, encoding="utf-8")
    unfit = options_of.replace("tiny_options", "unfit").replace("{{goal}}", "{{goal.a.b}}")
    (tasks / "unfit.yaml").write_text(unfit, encoding="utf-8")
    sentence = refusal(capsys, "evaluate", str(finished), "--include", str(tasks), *options)
    assert said in sentence


def test_a_folder_that_is_not_there(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "evaluate", str(finished), "--tasks", "x", "--include", "absent")
    assert "include: there is no folder" in said


def test_a_folder_without_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refusal(capsys, "evaluate", str(tmp_path), "--tasks", "piqa")
    assert "evaluate: " in said
    assert "holds no run with a checkpoint" in said
