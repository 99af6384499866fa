"""Tasks with answers of their own from the command line: fit, predict, generate, refusals."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
import yaml
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main, run
from zolit.errors import UserError
from zolit.python import export_model, generate

TASK = {"template": "{text}:", "max_new_tokens": 5}
PROMPTS = ["film 3 is", "film 17 is dull", "Review"]


def jsonl(file: Path, rows: list[dict[str, Any]]) -> Path:
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return file


def films(count: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "text": f"film {n} is",
            "options": ["dull", "bright and short", "long"][: 2 + n % 2],
            "label": n % 2,
            "answer": ["bright", "short"],
        }
        for n in range(count)
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Path:
    """Folder of a run that writes answers."""
    folder = tmp_path_factory.mktemp("written")
    rows = jsonl(folder / "rows.jsonl", films())
    changes = {
        "data.init_args.task": TASK,
        "model.objective": "AnswerLoss",
        "model.evaluation": "SquadAnswers",
        "model.optimizer.init_args.lr": 1.0,
        "run.run_dir": str(folder / "run"),
    }
    run(
        args=[
            "fit",
            "--config",
            write(changed(recipe(tiny_llama, rows), changes), folder / "c.yaml"),
        ]
    )
    return folder / "run"


def test_a_run_that_writes(written: Path) -> None:
    summary = json.loads((written / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"
    for stage in ("zero_shot", "final"):
        assert set(summary[stage]) == {"test_f1", "test_exact_match"}
    assert summary["best"]["by"] == "val_f1"
    main(["verify", str(written)])


def test_its_predictions_are_texts(written: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", [{"text": f"film {n} is"} for n in range(9)])
    main(["predict", str(written), "--rows", str(rows), "--to", str(tmp_path / "to.csv")])
    with (tmp_path / "to.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["row"] for line in lines] == [str(n) for n in range(9)]
    # The same as asking one by one, up to the stop of the task.
    alone = generate(written, [f"film {n} is:" for n in range(9)], 5, stop=["\n"])
    assert [line["answer"] for line in lines] == alone


def test_generate_is_the_exported_model_of_transformers(
    written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = [part for prompt in PROMPTS for part in ("--prompt", prompt)]
    main(["generate", str(written), *prompts, "--max_new_tokens", "12", "--base"])
    out = capsys.readouterr().out
    export_model(written, tmp_path / "model")
    capsys.readouterr()
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "model")
    texts = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")
        with torch.no_grad():
            new = model.generate(**ids, do_sample=False, max_new_tokens=12)[0]
        new = new[ids["input_ids"].shape[1] :]
        texts.append(tokenizer.decode(new, skip_special_tokens=True).strip())
    assert generate(written, PROMPTS, 12) == texts
    base = generate(written, PROMPTS, 12, base=True)
    blocks = zip(PROMPTS, base, texts, strict=True)
    assert out == "\n".join(f"prompt: {p}\nbase: {b}\nrun: {t}\n" for p, b, t in blocks)
    main(["generate", str(written), "--prompt", PROMPTS[0], "--max_new_tokens", "12"])
    assert capsys.readouterr().out == f"{texts[0]}\n"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--prompt", ""], "prompt: got '', which has no tokens"),
        (["--prompt", "x", "--max_new_tokens", "0"], "max_new_tokens must be at least 1, got 0"),
        (["--prompt", "x", "--max_new_tokens", "64"], "but the model reads at most 64"),
        (["--prompt", "x", "--chat"], "no chat template"),
        ([], "--prompt"),
    ],
)
def test_generate_refuses(
    written: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sentence in refusal(capsys, "generate", str(written), *options)


def test_options_of_each_row(tiny_llama: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", films())
    changes = {
        "data.init_args.task": {"template": "{text}", "options": ["options"]},
        "run.run_dir": str(tmp_path / "run"),
    }
    config = write(changed(recipe(tiny_llama, rows), changes), tmp_path / "c.yaml")
    run(args=["fit", "--config", config])
    main(["predict", str(tmp_path / "run"), "--rows", str(rows), "--to", str(tmp_path / "to.csv")])
    with (tmp_path / "to.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == ["row", "prediction", "answer", *(f"probabilities_{k}" for k in "012")]
    for line, film in zip(lines, films(), strict=True):
        assert line["answer"] == film["options"][int(line["prediction"])]
        chances = [float(line[f"probabilities_{k}"]) for k in "012"]
        assert sum(chances) == pytest.approx(1, abs=1e-5)
        assert len(film["options"]) == 3 or chances[2] == 0


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"model.objective": "AnswerLoss", "data.init_args.task": TASK},
            "the rows have no options to choose from",
        ),
        (
            {"data.init_args.task": {"template": "{text}", "options": ["text"]}},
            "has 1 option(s) in column(s) text",
        ),
        ({"data.init_args.shots": 40}, "shots: got 40 of 16 training rows"),
        ({"data.init_args.max_new_tokens": 4}, "max_new_tokens: got 4 with a Task"),
        (
            {"data.init_args.task": {"template": "{text}", "option": ["a"]}},
            "data.task.option: got \"['a']\", expected str",
        ),
        (
            {"data.init_args.task": {"template": "{text}", "optons": ["a"]}},
            "unknown option data.task.optons; nearest: options",
        ),
        (
            {"data.init_args.task": {"template": "{text}", "frobs": 3}},
            "unknown option data.task.frobs; expected one of Task (template, words), ChoiceTask "
            "(template, options), GenerationTask (template, max_new_tokens)",
        ),
        (
            {"data.init_args.task": {**TASK, "options": ["a"]}},
            "data.task: got max_new_tokens, options, template, which no form has together",
        ),
        (
            {"data.init_args.task": {"template": "x", "options": ["a"], "label_as": "idx"}},
            "data.task.label_as: got 'idx', expected one of 'index', 'name', 'text'",
        ),
        (
            {"data.init_args.task": {"template": "x", "options": "a"}},
            "data.task.options: got 'a', expected a list",
        ),
        (
            {"model.objective": {"class_path": "BlackBox", "init_args": {"sees": "text"}}},
            "BlackBox got sees: text without a metric or a function",
        ),
        (
            {
                "model.objective": {
                    "class_path": "BlackBox",
                    "init_args": {"metric": {"class_path": "torchmetrics.MeanMetric"}},
                }
            },
            "MeanMetric does not say whether it is to be large",
        ),
        (
            {
                "model.objective": {
                    "class_path": "BlackBox",
                    "init_args": {"function": f"{__name__}.Broken", "max_failures": 2},
                }
            },
            "raised 2 times in a row, the last time ZeroDivisionError",
        ),
    ],
)
def test_refusals(
    changes: dict[str, Any],
    sentence: str,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    task = {"template": "{text} It was", "words": {"0": "dull", "1": "bright"}}
    base = {"data.init_args.task": task, "run.run_dir": str(tmp_path / "run")}
    rows = jsonl(tmp_path / "rows.jsonl", films())
    config = write(changed(recipe(tiny_llama, rows), base | changes), tmp_path / "c.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", config])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err.splitlines()[-1]


class Broken:
    """A user's function that raises."""

    def __call__(self, predictions: Any, batch: Any) -> float:
        return 1 / 0


class Mean:
    """A user's function: the mean class, to be large."""

    def __call__(self, predictions: Any, batch: Any) -> float:
        return float(predictions.float().mean())


@pytest.mark.parametrize(
    "options",
    [
        {
            "metric": {
                "class_path": "torchmetrics.classification.MulticlassF1Score",
                "init_args": {"num_classes": 2},
            },
            "temperature": 1.0,
        },
        {"function": f"{__name__}.Mean", "maximize": True},
    ],
)
def test_a_black_box_in_yaml(
    options: dict[str, Any], tiny_llama: Path, films_csv: Path, tmp_path: Path
) -> None:
    changes = {
        "model.objective": {"class_path": "BlackBox", "init_args": options},
        "run.run_dir": str(tmp_path / "run"),
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 2,
    }
    config = write(changed(recipe(tiny_llama, films_csv), changes), tmp_path / "c.yaml")
    cli = run(args=["fit", "--config", config])
    assert cli.trainer.global_step == 2
    assert "test_accuracy" in cli.trainer.callback_metrics
    main(["verify", str(tmp_path / "run")])


def test_language_modelling_and_the_perplexity_of_a_run(tiny_llama: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(" ".join(f"film {n} is bright ." for n in range(200)), encoding="utf-8")
    changes = {
        "data": {
            "class_path": "TextDataModule",
            "init_args": {
                "text": str(text),
                "length": 16,
                "stride": 8,
                "validation_windows": 4,
                "test_windows": 4,
            },
        },
        "model.objective": "LanguageModeling",
        "model.evaluation": "Perplexity",
        "run.run_dir": str(tmp_path / "run"),
    }
    config = write(changed(recipe(tiny_llama, text), changes), tmp_path / "c.yaml")
    summary = tmp_path / "run" / "summary.json"
    run(args=["fit", "--config", config])
    found = json.loads(summary.read_text(encoding="utf-8"))["final"]
    assert set(found) == {"test_loss", "test_perplexity"}
    # Of a run of another task: its data are replaced by a text.
    data = {"class_path": "TextDataModule", "init_args": {"test_text": str(text), "length": 32}}
    other = tmp_path / "text.yaml"
    other.write_text(yaml.safe_dump({"data": data}), encoding="utf-8")
    args = ["--config", str(tmp_path / "run" / "config.yaml"), "--config", str(other)]
    last = str(tmp_path / "run" / "checkpoints" / "last.ckpt")
    cli = run(args=["test", *args, "--ckpt_path", last])
    assert float(cli.trainer.callback_metrics["test_perplexity"]) > 1


def test_estimates(tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", films())
    own: dict[str, Any] = {"data.init_args.task": TASK, "model.evaluation": "SquadAnswers"}
    task = {"template": "{text} It was", "words": {"0": "dull", "1": "bright"}}
    cases = [
        {**own, "model.objective": "AnswerLoss"},
        {"data.init_args.task": {"template": "{text}", "options": ["options"]}},
        {"model.objective": "BlackBox", "data.init_args.task": task},
    ]
    for changes in cases:
        config = write(changed(recipe(tiny_llama, rows), changes), tmp_path / "c.yaml")
        run(args=["estimate", "--config", config, "--json", "true"])
        found = json.loads(capsys.readouterr().out)
        assert found["step"] > 0
        assert found["evaluation"] > 0


def test_this_file_can_be_named() -> None:
    assert __name__ in sys.modules
    with pytest.raises(UserError):
        generate("nowhere", ["x"])
