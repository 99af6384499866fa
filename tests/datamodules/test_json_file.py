"""JSON and JSON lines: the place of what is wrong is named."""

import gzip
from pathlib import Path

import pandas as pd
import pytest

from zolit.datamodules.rows import FileRows
from zolit.errors import UserError

GOOD = '{"text": "a", "label": 1.50}\n{"text": "b", "label": 0}\n'


def refusal(file: Path, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        FileRows(str(file), **options).read()  # type: ignore[arg-type]
    return str(caught.value)


def test_numbers_stay_as_written_and_line_separators_are_text(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(GOOD + '\n{"text": "one\u2028line", "label": 1}', encoding="utf-8")
    table = FileRows(str(file)).read()
    assert table["text"].tolist() == ["a", "b", "one\u2028line"]
    assert table["label"].tolist() == ["1.50", 0, 1]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("rows.jsonl", GOOD + '{"text": "c', ["the last line of", "line 3", "cut", "delete it"]),
        ("rows.jsonl", "{no\n" + GOOD, ["line 1", "no JSON object", "rows.format"]),
        ("rows.jsonl", GOOD.replace("}", "", 1), ["line 1", "column"]),
        ("rows.jsonl", GOOD + "[1]\n", ["line 3", "a list", "an object"]),
        ("rows.jsonl", "", ["rows.jsonl", "is empty"]),
        ("rows.json", '[{"text": "a"}, {"te', ["ends in the middle", "cut", "again"]),
        ("rows.json", GOOD, ["Extra data in line 2", "jsonl"]),
        ("rows.json", "[1]", ["row 0", "a number", "an object"]),
        ("rows.json", "5", ["row 0", "a number"]),
        ("rows.json", "[]", ["holds no rows"]),
        ("rows.csv", " \n\n", ["rows.csv", "is empty"]),
        ("rows.csv", "text,label\n", ["holds no rows", "text, label", "rows.names"]),
        ("rows.csv", 'text,label\na,0\n"b c', ["line 3", "does not end", "last line", "cut"]),
        ("rows.csv", "text,label\na,0\nb,1,2\n", ["line 3", "3 fields for 2 columns"]),
        ("rows.csv", 'text,label\n"a\nb",0\nb,1,2\n', ["line 4", "3 fields for 2 columns"]),
        ("rows.tsv", "text\tlabel\na\t0\t1\nb\t1\n", ["line 2", "3 fields for 2 columns"]),
        ("rows.parquet", "PAR1 and no more", ["no whole Parquet file", "again"]),
    ],
)
def test_files_that_are_not_whole(tmp_path: Path, name: str, text: str, words: list[str]) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    said = refusal(file)
    assert name in said
    assert "\n" not in said
    for word in words:
        assert word in said


def test_archives_that_are_not_whole(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv.gz"
    whole = gzip.compress(b"text,label\n" + b"a,1\n" * 900)
    for data in (whole[:-9], b"plain text"):
        file.write_bytes(data)
        assert "cannot be unpacked" in refusal(file)
    file.write_bytes(gzip.compress(b""))
    assert "is empty" in refusal(file)


def test_a_table_of_names_alone_in_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    file = tmp_path / "rows.parquet"
    pd.DataFrame({"text": [], "label": []}).to_parquet(file)
    assert "holds no rows" in refusal(file)
