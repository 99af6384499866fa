"""``zolit predict RUN``: every row of a file, in its order, wherever one stands."""

import csv
import json
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import transformers as hf
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main, run
from zolit.commands.help import takes_run
from zolit.commands.tables import predictions_csv
from zolit.errors import UserError
from zolit.recipes.parts import data_of

ANSWERS = {"rotten": "negative", "fresh": "positive"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, films_csv: Path) -> Path:
    """Folder of a run whose training rows are gone."""
    folder = tmp_path_factory.mktemp("finished")
    rows = shutil.copy(films_csv, folder / "films.csv")
    changes = {
        "data.init_args.rows.init_args": {"path": str(rows), "rename": {"text": "text"}},
        "model.optimizer.init_args.lr": 0.2,
        "run.run_dir": str(folder / "run"),
    }
    config = write(changed(recipe(tiny_llama, films_csv), changes), folder / "recipe.yaml")
    run(args=["fit", "--config", config])
    Path(rows).unlink()
    return folder / "run"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """300 texts of many lengths, some twice, in random order."""
    draw = random.Random(5)  # noqa: S311
    words = ["film", "is", "bright", "and", "short", "dull", "long", "22", ",", ".", "negative"]
    found = [" ".join(draw.choices(words, k=draw.randint(1, 12))) for _ in range(280)]
    return draw.sample(found + found[:20], 300)


def answers_to(run: Path, rows: Path, to: Path, *options: str) -> list[dict[str, str]]:
    main(["predict", str(run), "--rows", str(rows), "--to", str(to), *options])
    with to.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def jsonl(file: Path, records: list[dict[str, Any]]) -> Path:
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


def near(one: dict[str, str], other: dict[str, str]) -> bool:
    """Whether two lines have one answer, and probabilities that differ by rounding at most."""
    same = one["label"] == other["label"] and one["word"] == other["word"]
    chances = [[float(line[f"p_{label}"]) for label in ANSWERS] for line in (one, other)]
    return same and chances[0] == pytest.approx(chances[1], abs=2e-6)


def test_every_row_as_if_it_were_alone(finished: Path, texts: list[str], tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    together = answers_to(finished, rows, tmp_path / "together.csv")
    assert [int(line["row"]) for line in together] == list(range(300))
    assert list(together[0]) == ["row", "label", "word", "p_rotten", "p_fresh"]
    assert {line["label"] for line in together} == set(ANSWERS)
    assert all(line["word"] == ANSWERS[line["label"]] for line in together)
    alone = answers_to(finished, rows, tmp_path / "alone.csv", "--batch_size", "1")
    assert all(map(near, alone, together))
    for index in (0, 123, 299):
        one = jsonl(tmp_path / "one.jsonl", [{"text": texts[index]}])
        [line] = answers_to(finished, one, tmp_path / "one.csv")
        assert line["row"] == "0"
        assert near(line, together[index])


def test_equals_the_exported_model_of_transformers(
    finished: Path, texts: list[str], tmp_path: Path
) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts[:40]])
    lines = answers_to(finished, rows, tmp_path / "answers.csv")
    main(["export", str(finished), "--to", str(tmp_path / "model")])
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "model")
    words = [tokenizer(f" {word}")["input_ids"][-1] for word in ANSWERS.values()]
    for text, line in zip(texts[:40], lines, strict=True):
        ids = tokenizer(f"Review: {text}\nSentiment:", return_tensors="pt")["input_ids"]
        with torch.no_grad():
            chances = model(ids).logits[0, -1, words].softmax(dim=0)
        got = [float(line[f"p_{label}"]) for label in ANSWERS]
        assert got == pytest.approx(chances.tolist(), abs=1e-4)


def test_labels_play_no_part(finished: Path, texts: list[str], tmp_path: Path) -> None:
    bare = jsonl(tmp_path / "bare.jsonl", [{"text": text} for text in texts[:30]])
    # Labels that training would drop ("plot") or refuse.
    labels = ["rotten", "plot", "unheard of", None, "fresh"] * 6
    records = [{"category": one, "text": t} for one, t in zip(labels, texts, strict=False)]
    given = jsonl(tmp_path / "given.jsonl", records)
    assert answers_to(finished, given, tmp_path / "a.csv") == answers_to(
        finished, bare, tmp_path / "b.csv"
    )


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet", "csv.gz"])
def test_kinds_of_file(finished: Path, texts: list[str], tmp_path: Path, ending: str) -> None:
    table = pd.DataFrame({"text": texts[:8]})
    file = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        table.to_parquet(file)
    elif ending.startswith("json"):
        table.to_json(file, orient="records", lines=ending == "jsonl")
    else:
        table.to_csv(file, index=False, sep="\t" if ending == "tsv" else ",")
    plain = jsonl(tmp_path / "plain.jsonl", table.to_dict("records"))
    expected = answers_to(finished, plain, tmp_path / "expected.csv")
    assert answers_to(finished, file, tmp_path / "answers.csv") == expected


def test_columns_are_renamed_as_the_run_renamed_them(
    finished: Path, texts: list[str], tmp_path: Path
) -> None:
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    config = run / "config.yaml"
    said = config.read_text(encoding="utf-8")
    assert "          text: text\n" in said
    config.write_text(said.replace("          text: text\n", "          sentence: text\n"))
    named = jsonl(tmp_path / "named.jsonl", [{"sentence": text} for text in texts[:4]])
    ready = jsonl(tmp_path / "ready.jsonl", [{"text": text} for text in texts[:4]])
    assert answers_to(run, named, tmp_path / "a.csv") == answers_to(run, ready, tmp_path / "b.csv")


def test_from_another_folder_to_a_pipe(finished: Path, texts: list[str], tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts[:5]])
    expected = answers_to(finished, rows, tmp_path / "answers.csv")
    command = [sys.executable, "-m", "zolit.cli", "predict", str(finished), "--rows", "rows.jsonl"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)  # noqa: S603
    assert done.returncode == 0, done.stderr
    assert list(csv.DictReader(done.stdout.splitlines())) == expected
    [said] = done.stderr.splitlines()
    assert said.startswith("zolit: 5 rows of rows.jsonl, answered by ")
    assert said.endswith("after step 3")


def test_by_configuration(
    finished: Path, texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every row of test_rows in the file's order, whatever test_size says; nothing else is read."""
    rows = jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts])
    expected = answers_to(finished, rows, tmp_path / "answers.csv")
    capsys.readouterr()
    given = ["--config", str(finished / "config.yaml")]
    given += ["--ckpt_path", str(finished / "checkpoints" / "best.ckpt")]
    given += ["--data.test_rows", "FileRows", "--data.test_rows.path", str(rows)]
    run(args=["predict", *given])
    printed = capsys.readouterr()
    assert list(csv.DictReader(printed.out.splitlines())) == expected
    assert "zolit: test_rows: all 300 rows are answered, test_size=16 is for" in printed.err


def test_limits_of_the_trainer(
    finished: Path, texts: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", [{"text": text} for text in texts[:9]])
    given = ["--config", str(finished / "config.yaml"), "--data.eval_batch_size", "4"]
    given += ["--data.test_rows", "FileRows", "--data.test_rows.path", str(rows)]
    run(args=["predict", *given, "--trainer.limit_predict_batches", "1"])
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 5
    assert "limits leave 5 rows unanswered" in printed.err


def test_no_probabilities() -> None:
    batch = {"prediction": torch.tensor([0]), "probabilities": torch.tensor([[float("nan")] * 2])}
    with pytest.raises(UserError, match="scores of row 7 are NaN"):
        predictions_csv([batch], [7], ["0", "1"], ["bad", "good"])


def test_a_word_may_have_the_name_of_a_column() -> None:
    batch = {"prediction": torch.tensor([1]), "probabilities": torch.tensor([[0.25, 0.75]])}
    text = predictions_csv([batch], None, ["row", "label"], ["row", "a,b"])
    assert text == 'row,label,word,p_row,p_label\n0,label,"a,b",0.250000,0.750000\n'


def test_another_kind_of_data(finished: Path, tmp_path: Path) -> None:
    config = (finished / "config.yaml").read_text(encoding="utf-8")
    kind = "lightning.pytorch.demos.boring_classes.BoringDataModule"
    other = config.replace("zolit.PromptDataModule", kind)
    with pytest.raises(UserError, match=f"data is a {kind}, whose rows cannot be replaced"):
        data_of(other, {})


def test_which_form() -> None:
    assert takes_run(["predict", "run", "--rows", "new.csv"])
    assert takes_run(["predict", "--help"])
    assert not takes_run(["predict", "--config=a.yaml"])
    assert not takes_run(["predict", "--ckpt_path", "a.ckpt", "-c", "a.yaml"])
    assert not takes_run(["fit", "run"])
    assert takes_run(["export", "run"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], ["--rows", "required", "zolit predict --help"]),
        (["--rows", "none.csv"], ["none.csv", "nothing.csv"]),
        (["--rows", "rows", "--format", "jsonl", "--to", "rows"], ["--to", "file of rows"]),
        (["--rows", "rows.jsonl", "--to", "a.parquet"], ["--to", "CSV"]),
        (["--rows", "rows.jsonl", "--to", "no/a.csv"], ["--to", "existing folder"]),
        (["--rows", "rows.jsonl", "--ckpt_path", "no.ckpt"], ["no.ckpt", "best.ckpt"]),
        (["--rows", "other.jsonl"], ["rows: there is no column 'text'", "body", "or --names for"]),
        (["--rows", "nothing.csv"], ["--rows: ", "nothing.csv", "holds no rows"]),
        (["--rows", "long.jsonl"], ["row 1", "tokens", "set --truncate"]),
        (["--rows", "ragged.csv"], ["--rows: line 2", "check --format"]),
        (["--rows", "quoted.csv"], ["--rows: line 2", "set --no-quotes"]),
        (["--rows", "rows.jsonl", "--batch_size", "0"], ["--batch_size must be at least 1, got 0"]),
    ],
)
def test_messages(
    finished: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    words: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    jsonl(tmp_path / "rows.jsonl", [{"text": "a film"}])
    jsonl(tmp_path / "other.jsonl", [{"body": "a film"}])
    jsonl(tmp_path / "long.jsonl", [{"text": "a film"}, {"text": "bright " * 99}])
    shutil.copy(tmp_path / "rows.jsonl", tmp_path / "rows")
    (tmp_path / "nothing.csv").write_text("text\n")
    (tmp_path / "ragged.csv").write_text("text\na,b\n")
    (tmp_path / "quoted.csv").write_text('text\n"A" film\n')
    before = sorted(tmp_path.iterdir())
    sentence = refusal(capsys, "predict", str(finished), *options)
    for word in words:
        assert word in sentence
    for other in ("test_rows", "eval_batch_size", "rows.path", "rows.format"):
        assert other not in sentence, "no option of this command"
    assert sorted(tmp_path.iterdir()) == before


def test_long_rows_can_be_cut(finished: Path, tmp_path: Path) -> None:
    rows = jsonl(tmp_path / "long.jsonl", [{"text": "bright " * 99}])
    assert len(answers_to(finished, rows, tmp_path / "answers.csv", "--truncate")) == 1


def test_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = jsonl(tmp_path / "rows.jsonl", [{"text": "a film"}])
    sentence = refusal(capsys, "predict", str(tmp_path / "none"), "--rows", str(rows))
    assert "holds no run with a checkpoint" in sentence
