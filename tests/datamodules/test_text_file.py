import gzip
from pathlib import Path

import pandas as pd
import pytest

from zolit.datamodules.rows import FileRows
from zolit.datamodules.text_file import text_of_file
from zolit.errors import UserError

TEXT = "text,label\nnaïve,1\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(TEXT.encode(encoding))
    assert text_of_file(file, encoding) == TEXT
    table = FileRows(str(file), encoding=encoding).read()
    assert table.to_dict("list") == {"text": ["naïve"], "label": ["1"]}


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json"])
def test_the_mark_of_utf8_is_no_text(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"rows.{ending}"
    table = pd.DataFrame({"text": ["naïve"]})
    if ending == "csv":
        plain = table.to_csv(index=False)
    else:
        plain = table.to_json(orient="records", lines=ending == "jsonl", force_ascii=False)
    file.write_bytes(b"\xef\xbb\xbf" + plain.encode())
    assert FileRows(str(file)).read().to_dict("list") == {"text": ["naïve"]}


@pytest.mark.parametrize(
    ("data", "encoding", "words"),
    [
        (TEXT.encode("latin-1"), "utf-8", ["0xef in line 2", "latin-1", "rows.encoding"]),
        (TEXT.encode("utf-16"), "utf-8", ["utf-16", "encoding: utf-16"]),
        (TEXT.encode("utf-16-le"), "latin-1", ["NUL", "utf-16-le"]),
        (TEXT.encode(), "hex", ["'hex'", "latin-1"]),
        (TEXT.encode(), "latin_one", ["'latin_one'", "latin-1"]),
    ],
)
def test_messages(tmp_path: Path, data: bytes, encoding: str, words: list[str]) -> None:
    file = tmp_path / "rows.csv"
    file.write_bytes(data)
    with pytest.raises(UserError) as caught:
        FileRows(str(file), encoding=encoding).read()
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("cut", [5, 30])
def test_a_broken_archive(tmp_path: Path, cut: int) -> None:
    file = tmp_path / "rows.csv.gz"
    file.write_bytes(gzip.compress(TEXT.encode() * 50)[:cut])
    with pytest.raises(UserError, match=r"rows\.path: .*rows\.csv\.gz"):
        FileRows(str(file)).read()
