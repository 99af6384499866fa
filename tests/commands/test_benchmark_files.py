"""Files of benchmarks from the command line, as they are published: fit, predict, refusals."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main, run

COUNT = 50
PLACES = ["Rome", "Oslo", "Bonn"]


def multirc(n: int) -> dict[str, Any]:
    answers = [{"text": f"place {k}", "label": int(k == n % 2)} for k in range(2)]
    asked = [{"question": f"where is film {n} ?", "answers": answers}]
    return {"idx": n, "passage": {"text": f"film {n} is in place {n % 2}", "questions": asked}}


def record(n: int) -> dict[str, Any]:
    text, spans = f"film {n} : ", []
    for place in PLACES:
        spans.append({"start": len(text), "end": len(text) + len(place) - 1})
        text += f"{place} , "
    answers = [{"text": PLACES[n % 3]}, {"text": PLACES[n % 3]}]
    asked = [{"query": f"film {n} is in @placeholder .", "answers": answers}]
    return {"passage": {"text": text, "entities": spans}, "qas": asked}


def piqa(n: int) -> dict[str, Any]:
    return {"goal": f"see film {n}", "sol1": "be short", "sol2": "be long", "label": n % 2}


def arc(n: int) -> dict[str, Any]:
    labels = "ABC" if n % 4 else "123"
    pairs = zip(PLACES, labels, strict=True)
    choices = [{"text": text, "label": label} for text, label in pairs]
    return {"question": {"stem": f"film {n} ?", "choices": choices}, "answerKey": labels[n % 3]}


def arc_of_the_hub(n: int) -> dict[str, Any]:
    choices = {"text": PLACES, "label": ["A", "B", "C"]}
    return {"question": f"film {n} ?", "choices": choices, "answerKey": "ABC"[n % 3]}


# Task, rows of the file, its form (None: it is flat), and how often a row becomes one.
FILES: dict[str, tuple[str, Any, str | None, int]] = {
    "multirc": ("multirc", multirc, "multirc", 2),
    "record": ("record", record, "record", 1),
    "piqa": ("piqa", piqa, None, 1),
    "arc": ("arc", arc, "arc", 1),
    "arc of the hub": ("arc", arc_of_the_hub, None, 1),
}
OBJECTIVES = {"multirc": ["OptionScoring"]}


def file_of(folder: Path, make: Any) -> Path:
    file = folder / "rows.jsonl"
    lines = [json.dumps(make(n)) for n in range(COUNT)]
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def rows_of(file: Path, form: str | None) -> dict[str, Any]:
    if form is None:
        return {"class_path": "FileRows", "init_args": {"path": str(file)}}
    return {"class_path": "BenchmarkRows", "init_args": {"path": str(file), "form": form}}


@pytest.mark.parametrize("name", FILES)
def test_from_a_file_to_answers(name: str, tiny_llama: Path, tmp_path: Path) -> None:
    task, make, form, times = FILES[name]
    file = file_of(tmp_path, make)
    for objective in OBJECTIVES.get(name, ["AnswerLoss", "OptionScoring"]):
        changes = {
            "data.init_args.task": task,
            "data.init_args.rows": rows_of(file, form),
            "data.init_args.truncate": True,  # the model reads 64 tokens
            "model.objective": objective,
            "model.evaluation": "Classification",
            "trainer": {"max_steps": 2, "val_check_interval": 2, "logger": False},
            "run.run_dir": str(tmp_path / objective),
        }
        config = write(changed(recipe(tiny_llama, file), changes), tmp_path / "c.yaml")
        run(args=["fit", "--config", config])
        summary = json.loads((tmp_path / objective / "summary.json").read_text(encoding="utf-8"))
        assert summary["status"] == "finished"
        assert set(summary["final"]) == {"test_loss", "test_accuracy"}
        assert summary["best"]["step"] == 2
    to = tmp_path / "to.csv"
    options = [] if form is None else ["--form", form]
    rows = ["--rows", str(file), "--to", str(to), "--truncate", *options]
    main(["predict", str(tmp_path / objective), *rows])
    with to.open(encoding="utf-8", newline="") as read:
        lines = list(csv.DictReader(read))
    assert [int(line["row"]) for line in lines] == list(range(COUNT * times))


def test_a_nested_file_and_an_option_of_flat_ones(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of(tmp_path, piqa)
    changes = {"data.init_args.task": "piqa", "run.run_dir": str(tmp_path / "run")}
    config = write(changed(recipe(tiny_llama, file), changes), tmp_path / "c.yaml")
    run(args=["fit", "--config", config])
    capsys.readouterr()
    given = ["predict", str(tmp_path / "run"), "--rows", str(file)]
    said = refusal(capsys, *given, "--form", "arc", "--encoding", "utf-8")
    assert "--form: got arc with --encoding, which is for flat files" in said
    assert "is not of the form arc" in refusal(capsys, *given, "--form", "arc")


def test_examples_before_each_row_that_do_not_fit(
    tiny_llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_of(tmp_path, record)
    changes = {
        "data.init_args.task": "record",
        "data.init_args.rows": rows_of(file, "record"),
        "data.init_args.shots": 8,
        "data.init_args.truncate": True,
        "run.run_dir": str(tmp_path / "run"),
    }
    config = write(changed(recipe(tiny_llama, file), changes), tmp_path / "c.yaml")
    said = refusal(capsys, "test", "--config", config)
    assert "shots: with the examples before it row " in said
    assert "64 fit; lower shots" in said


@pytest.mark.parametrize(
    ("task", "change", "sentence"),
    [
        ("piqa", {"label": None}, "row 7 has no value in column 'label'"),
        ("piqa", {"label": 2}, "'label' of row 7 is 2, which as label_as: index is none of its 2"),
        ("piqa", {"sol2": " "}, "row 7 has an empty option in column 'sol2'"),
        ("piqa", {"sol2": None}, "row 7 has no value in column 'sol2'"),
        ("arc of the hub", {"answerKey": "D"}, "'answerKey' of row 7 is 'D'"),
        ("arc of the hub", {"choices": {"text": [], "label": []}}, "row 7 has 0 option(s)"),
        (
            "arc of the hub",
            {"choices": {"text": ["a", ""], "label": ["A", "B"]}},
            "an empty option",
        ),
        ("arc of the hub", {"choices": {"text": ["a", "b"], "label": ["A"]}}, "1 names"),
        ("record", {"qas": [{"query": "it is @placeholder"}]}, "no value in column 'answers'"),
        (
            "record",
            {"qas": [{"query": "it is", "answers": [{"text": "Rome"}]}]},
            "no '@placeholder'",
        ),
        (
            "record",
            {"qas": [{"query": "@placeholder is", "answers": [{"text": "Ulm"}]}]},
            "'answers' of row 7 is ['Ulm'], which as label_as: text is none of its 3 options",
        ),
        ("arc", {"answerKey": None}, "row 7 has no value in column 'answerKey'"),
        ("multirc", {"passage": {"text": "x"}}, "is not of the form multirc (KeyError"),
    ],
)
def test_rows_that_cannot_be_used(
    task: str,
    change: dict[str, Any],
    sentence: str,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, make, form, _ = FILES[task]
    file = file_of(tmp_path, lambda n: make(n) | (change if n == 7 else {}))
    changes = {
        "data.init_args.task": name,
        "data.init_args.rows": rows_of(file, form),
        "data.init_args.train_size": None,  # with the others every row
        "data.init_args.validation_size": 10,
        "data.init_args.test_size": 10,
        "data.init_args.truncate": True,
        "run.run_dir": str(tmp_path / "run"),
    }
    config = write(changed(recipe(tiny_llama, file), changes), tmp_path / "c.yaml")
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", config])
    last = capsys.readouterr().err.splitlines()[-1]
    assert stop.value.code == 2
    assert last.startswith("zolit: error: ")
    assert sentence in last
    assert not (tmp_path / "run").exists()
