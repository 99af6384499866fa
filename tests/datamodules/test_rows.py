import bz2
import gzip
import json
from pathlib import Path

import pandas as pd
import pytest

from zolit.datamodules.rows import FileRows, HubRows
from zolit.errors import UserError

TABLE = pd.DataFrame({"text": ['a "quoted" film', "None", "naïve, one"], "label": [0, 1, 1]})


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "csv.bz2", "csv.xz", "tsv.gz"])
def test_separated_values(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"rows.{ending}"
    TABLE.to_csv(file, index=False, sep="\t" if "tsv" in ending else ",")
    # Every value is the text that stands in the file.
    expected = TABLE.astype({"label": str})
    pd.testing.assert_frame_equal(FileRows(str(file)).read(), expected)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "jsonl.bz2"])
def test_json_lines(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"rows.{ending}"
    TABLE.to_json(file, orient="records", lines=True)
    pd.testing.assert_frame_equal(FileRows(str(file)).read(), TABLE)


@pytest.mark.parametrize("orient", ["records", "index"])
def test_json_list_or_object(tmp_path: Path, orient: str) -> None:
    file = tmp_path / "rows.json"
    TABLE.to_json(file, orient=orient)
    pd.testing.assert_frame_equal(FileRows(str(file)).read(), TABLE)


def test_parquet_and_rename(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    TABLE.to_parquet(file)
    assert list(FileRows(str(file), rename={"text": "sentence"}).read()) == ["sentence", "label"]


def test_rename_replaces_a_column_of_that_name(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"label1": "a", "gold": "b", "label": "c"}')
    table = FileRows(str(file), rename={"gold": "label"}).read()
    assert table.to_dict("records") == [{"label1": "a", "label": "b"}]


def test_nested_objects_are_flattened(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps({"t": "x", "target": {"span": "it", "n": 1}, "other": {"n": 2}}))
    assert list(FileRows(str(file)).read()) == ["t", "span", "target.n", "other.n"]


def test_labelled_lines(tmp_path: Path) -> None:
    file = tmp_path / "questions.train"
    file.write_bytes("DESC:manner How did caf\xe9s develop ?\n\nHUM Who ?\n".encode("latin-1"))
    table = FileRows(str(file), format="lines", encoding="latin-1").read()
    assert table["label"].tolist() == ["DESC", "HUM"]
    assert table["fine_label"].tolist() == ["manner", ""]
    assert table["text"].tolist() == ["How did caf\xe9s develop ?", "Who ?"]


def test_tsv_without_header_and_quotes(tmp_path: Path) -> None:
    file = tmp_path / "rows.tsv"
    file.write_text('0\t"an open quote\n1\tb\n')
    table = FileRows(str(file), names=["label", "text"], quotes=False).read()
    assert table["text"].tolist() == ['"an open quote', "b"]


def test_hub_reader_on_a_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "data"
    folder.mkdir()
    TABLE.to_parquet(folder / "train.parquet")
    table = HubRows(str(folder), split="train[:2]", rename={"text": "sentence"}).read()
    assert table["sentence"].tolist() == TABLE["text"].tolist()[:2]


def test_hub_label_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])}
    )
    data = datasets.Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, 0, -1]}, features)
    monkeypatch.setattr(datasets, "load_dataset", lambda *args, **kwargs: data)
    assert HubRows("some/set").read()["label"].tolist() == [1, 0, -1]
    assert HubRows("some/set", label_names=True).read()["label"].tolist() == ["pos", "neg", -1]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: FileRows(str(d / "rowz.csv")), ["rowz.csv", "rows.csv"]),
        (lambda d: FileRows(str(d / "no" / "rows.csv")), ["no folder"]),
        (lambda d: FileRows(str(d / "rows.txt")), ["rows.txt", ".jsonl", "rows.format"]),
        (lambda d: FileRows(str(d / "bad.jsonl")), ["bad.jsonl", "line 1", "rows.format"]),
        (lambda d: FileRows(str(d / "bad.jsonl"), names=["a"]), ["rows.names", "jsonl"]),
        (lambda d: FileRows(str(d / "empty")), ["empty", "is a folder"]),
        (lambda d: FileRows(str(d / "latin.csv")), ["latin.csv", "utf-8", "rows.encoding"]),
        (lambda d: FileRows(str(d / "rows.csv"), format="lines"), ["line 1", "rows.format"]),
        (lambda d: FileRows(str(d / "rows.csv"), rename={"tex": "a"}), ["'tex'", "text"]),
        (lambda d: FileRows(str(d / "ragged.csv")), ["ragged.csv", "line 2", "3 fields"]),
        (lambda d: FileRows(str(d / "longer.csv")), ["longer.csv", "line 3"]),
        (lambda d: FileRows("a.csv", package="no-such-pkg"), ["no-such-pkg", "pip install"]),
        (lambda d: FileRows("pytest/no.csv", package="pytest"), ["no.csv", "pytest"]),
        (lambda d: HubRows(str(d / "empty")), ["rows.name", "empty"]),
    ],
)
def test_messages(tmp_path: Path, make, words: list[str]) -> None:
    (tmp_path / "rows.csv").write_text("text,label\na,0\n")
    (tmp_path / "rows.txt").write_text("text")
    (tmp_path / "bad.jsonl").write_text("{not json\n")
    (tmp_path / "latin.csv").write_bytes(b"text\ncaf\xe9\n")
    (tmp_path / "ragged.csv").write_text("text,label\na,0,1\nb,1\n")
    (tmp_path / "longer.csv").write_text("text,label\na,0\nb,1,1\n")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as caught:
        make(tmp_path).read()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_compressed_json_equals_plain(tmp_path: Path) -> None:
    content = TABLE.to_json(orient="records").encode()
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(content))
    (tmp_path / "a.json.bz2").write_bytes(bz2.compress(content))
    for name in ("a.json.gz", "a.json.bz2"):
        pd.testing.assert_frame_equal(FileRows(str(tmp_path / name)).read(), TABLE)
