"""Rows, prompts and tokenizers that a run must not take wrong in silence."""

import json
import shutil
from pathlib import Path

import pytest
import transformers as hf
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import run

WORDS = {"0": "negative", "1": "positive"}


@pytest.fixture
def model(tiny_llama: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_llama, tmp_path / "model"))


def rows(file: Path, texts: list[str], label: str = "category") -> Path:
    records = [{"text": text, label: n % 2} for n, text in enumerate(texts)]
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


def test_a_padding_token_beyond_the_embedding(
    model: Path, tiny_llama: Path, films_csv: Path, tmp_path: Path
) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(model)
    tokenizer.add_special_tokens({"pad_token": "[NEWPAD]"})
    tokenizer.save_pretrained(model)
    assert tokenizer.pad_token_id >= hf.AutoConfig.from_pretrained(model).vocab_size
    figures = []
    for folder in (model, tiny_llama):
        config = write(recipe(folder, films_csv), tmp_path / "recipe.yaml")
        metrics = run(args=["test", "--config", config]).trainer.callback_metrics
        figures.append({name: float(value) for name, value in metrics.items()})
    assert figures[0] == figures[1]


def test_a_text_with_a_token_beyond_the_embedding(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["<new>"])
    tokenizer.save_pretrained(model)
    file = rows(tmp_path / "rows.jsonl", [f"film {n} is <new>" for n in range(60)])
    config = write(recipe(model, file), tmp_path / "recipe.yaml")
    run_dir = tmp_path / "run"
    sentence = refusal(capsys, "fit", "--config", config, "--run.run_dir", str(run_dir))
    assert "holds the token '<new>'" in sentence
    assert "row " in sentence
    assert not run_dir.exists()


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{text} {Review Text}", ["no column 'Review Text'", "nearest names: text"]),
        ("{text", ["task.template", "has no partner"]),
        ("{tokens}\nSentiment:", ["column 'tokens' of row", "is a list", "|join"]),
        ("{chat}\nSentiment:", ["column 'chat' of row", "no chat template"]),
    ],
)
def test_prompts_that_are_refused(
    template: str,
    words: list[str],
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    films = [f"film {n}" for n in range(60)]
    chats = [[{"role": "user", "content": film}] for film in films]
    records = [
        {"text": film, "tokens": film.split(), "chat": chat, "label": n % 2}
        for n, (film, chat) in enumerate(zip(films, chats, strict=True))
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    task = {"template": template, "words": WORDS}
    config = changed(recipe(model, file), {"data.init_args.task": task})
    given = ["--config", write(config, tmp_path / "recipe.yaml")]
    sentence = refusal(capsys, "fit", *given, "--run.run_dir", str(tmp_path / "run"))
    for text in words:
        assert text in sentence
    assert not (tmp_path / "run").exists()


def test_rows_of_one_class_are_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [f"film {n} is bright" for n in range(60)]
    file = tmp_path / "rows.csv"
    file.write_text("\n".join(["text,category", *(f"{text},fresh" for text in texts)]))
    run(args=["test", "--config", write(recipe(model, file), tmp_path / "recipe.yaml")])
    said = capsys.readouterr().err
    assert "zolit: rows: all 16 training rows have the answer 'positive'" in said
