import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from zolit.datamodules.prompt import PromptDataModule
from zolit.datamodules.rows import FileRows, TableRows
from zolit.datamodules.tables import checked_table
from zolit.datamodules.tasks import Task
from zolit.errors import UserError
from zolit.models.source import ModelSource

WORDS = {"0": "bad", "1": "good"}


def module(source: ModelSource, table: pd.DataFrame, **options: Any) -> PromptDataModule:
    given = {"task": Task("{text}\nMood:", WORDS), "train_size": 4, "validation_size": 2}
    return PromptDataModule(
        **{**given, "test_size": 2, **options}, rows=TableRows(table), source=source
    )


def films(labels: list[Any], first: str = "film 0") -> pd.DataFrame:
    texts = [first, *(f"film {number}" for number in range(1, len(labels)))]
    return pd.DataFrame({"text": texts, "label": labels})


@pytest.mark.parametrize(
    ("table", "options", "said"),
    [
        (films([0, 1] * 6), {}, []),
        (films([1] * 12), {}, ["all 4 training rows have the answer 'good'"]),
        (
            films([0, 1] * 6),
            {"task": Task("{text}\nMood:", {**WORDS, "2": "okay"})},
            ["no training row has the answer 'okay'"],
        ),
        (
            films(["World", "Sports", "Tech"] * 4),
            {"task": Task("{text}\n", {"World": "a", "Sports": "a", "Tech": "b", "0": "b"})},
            ["labels World, Sports have one word, 'a'"],
        ),
        (films([0, 1] * 6), {"task": Task("{text}. Mood: ", WORDS)}, ["ends in a blank"]),
        (
            films([0, 1] * 6),
            {"task": Task("{text} {label}\nMood:", WORDS)},
            ["shows the column of labels, 'label'"],
        ),
        (
            films([0, 1] * 6, first="end </s>"),
            {"train_size": 12, "validation_size": 0, "test_size": 0},
            ["1 row(s) spell out a special token", "row 0 with '</s>'"],
        ),
        (
            films([0, 1] * 6),
            {"task": Task("{{ text }} {text}\nMood:", WORDS)},
            ["{{text}} is the text {text}; write {text}"],
        ),
        (
            films([0, 1] * 4, first="  "),
            {"train_size": 8, "validation_size": 0, "test_size": 0},
            ["train: 1 of 8 rows have an empty text in column 'text', the first is row 0"],
        ),
        (
            films([0, 1] * 6),
            {"test_rows": TableRows(films([0, 1] * 6, "new").iloc[:1])},
            [],
        ),
        (
            films([0, 1] * 6),
            {
                "validation_rows": TableRows(films([0, 1] * 8).iloc[12:]),
                "test_rows": TableRows(films([0, 1] * 9).iloc[14:]),
                "validation_size": None,
                "test_size": None,
            },
            ["validation_rows: 2 of 4 rows are in test_rows too and are left out"],
        ),
        (
            films([0, 1] * 6),
            {"test_rows": TableRows(films([0, 1] * 30, "new").iloc[12:])},
            ["test_rows: 2 of 48 rows are drawn (test_size=2); test_size=null takes all"],
        ),
    ],
)
def test_notes(
    causal_source: ModelSource,
    capsys: pytest.CaptureFixture[str],
    table: pd.DataFrame,
    options: dict[str, Any],
    said: list[str],
) -> None:
    module(causal_source, table, **options).setup()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == bool(said), lines
    for text in said:
        assert lines[0].startswith("zolit: ")
        assert text in lines[0]


def test_test_rows_are_taken_whole(causal_source: ModelSource) -> None:
    tests = TableRows(films([0, 1] * 600, "new").iloc[12:])
    data = module(causal_source, films([0, 1] * 6), test_rows=tests, test_size="auto")
    data.setup()
    assert len(data.examples["test"]) == 1188


def test_a_blank_at_the_end_changes_no_token(causal_source: ModelSource) -> None:
    first, second = (
        module(causal_source, films([0, 1] * 6), task=Task(f"{{text}} Mood:{end}", WORDS))
        for end in ("", " ")
    )
    first.setup()
    second.setup()
    assert first.examples == second.examples
    assert first.collate.answers == second.collate.answers


@pytest.mark.parametrize(
    ("columns", "template", "words"),
    [
        ({"text": ["a"]}, "{text:>10} was", ["'text:>10'", "nearest names: text", "{{ and }}"]),
        ({" text": ["a"]}, "{text}", ["nearest names: ' text'"]),
        ({"Review": ["a"]}, "{Reviews}", ["'Reviews'", "Review"]),
        ({"text": []}, "{text}", ["rows: there are no rows"]),
        ({"text": [b"\xff"]}, "{text}", ["row 0", "no UTF-8"]),
    ],
)
def test_messages(columns: dict[str, list[Any]], template: str, words: list[str]) -> None:
    table = pd.DataFrame(columns).assign(label=0)
    with pytest.raises(UserError) as caught:
        checked_table(table, "rows", Task(template, WORDS))
    for word in words:
        assert word in str(caught.value)


def test_lists_as_keys_of_the_split(causal_source: ModelSource, tmp_path: Path) -> None:
    """Rows that differ late in a long list are not taken for one."""
    lists = [["a"] * 1200 + [str(number)] for number in range(12)]
    file = tmp_path / "rows.parquet"
    pd.DataFrame({"text": lists, "label": [0, 1] * 6}).to_parquet(file)
    task = Task("{text|join}\nMood:", WORDS)
    data = PromptDataModule(
        task, FileRows(str(file)), causal_source, None, None, 8, 2, 2, max_length=60, truncate=True
    )
    data.setup()
    ends = {data.tokenizer.decode(example.ids)[-9:] for example in data.examples["train"]}
    assert len(ends) == 8


def test_columns_with_blanks_and_json_numbers(causal_source: ModelSource, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    record = '{"Review Text": "film", "price": 1.50, "new": true, "label": %d}'
    file.write_text("\n".join(record % number for number in (0, 1)))
    task = Task("{Review Text} {price} {new}\nMood:", WORDS)
    rows = FileRows(str(file)).read().to_dict("records")
    assert task.prompt(rows[0]) == "film 1.50 true\nMood:"
    assert [task.class_of(row["label"]) for row in rows] == [0, 1]
    assert json.loads(record % 0)["price"] == 1.5  # what a plain reader makes of it
