"""Windows of texts."""

import gzip
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from zolit.calibration.text import Window, windows_of_documents, windows_of_file
from zolit.errors import UserError


def windows_of(count: int, length: int) -> list[Window]:
    """Windows of made-up tokens, the later ones a little shorter, the last one's end counts."""
    ids = torch.arange(count * length).view(count, length) * 31 % 89 + 5
    shorter = [Window(one[:-2] if number else one) for number, one in enumerate(ids)]
    return [*shorter[:-1], Window(shorter[-1].ids, length // 2)]


def by_character(text: str, **options: Any) -> Any:
    return SimpleNamespace(input_ids=torch.tensor([[ord(one) for one in text]]))


def documents(file: Path, texts: list[str]) -> Path:
    text = "".join(json.dumps({"text": one, "url": "x"}) + "\n" for one in texts)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(text.encode()))
    else:
        file.write_text(text)
    return file


@pytest.mark.parametrize("name", ["c4.json.gz", "c4.jsonl"])
def test_a_window_of_each_document_that_is_long_enough(name: str, tmp_path: Path) -> None:
    texts = ["short", "a first long document", "tiny", "another one that is long", "one more long"]
    file = documents(tmp_path / name, texts)
    found = windows_of_documents(file, by_character, 3, 10, seed=0)
    assert found.shape == (3, 10)
    for ids, text in zip(found, [texts[1], texts[3], texts[4]], strict=True):
        assert "".join(map(chr, ids.tolist())) in text
    assert torch.equal(found, windows_of_documents(file, by_character, 3, 10, seed=0))
    others = [windows_of_documents(file, by_character, 3, 10, seed=one) for one in range(1, 5)]
    assert any(not torch.equal(found, one) for one in others)
    with pytest.raises(UserError, match="has 3 documents of length=10 tokens or more, but sam"):
        windows_of_documents(file, by_character, 4, 10, seed=0)


def test_plain_text_is_cut_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("abcdefghij")
    found = windows_of_file(file, by_character, 2, 3, seed=0)
    assert [one.ids.tolist() for one in found] == [[97, 98, 99], [100, 101, 102]]
    assert {one.start for one in found} == {1}


def test_what_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"text": "x"}\nnot json\n')
    (tmp_path / "b.jsonl").write_text('{"words": "x"}\n')
    (tmp_path / "c.json.gz").write_bytes(gzip.compress(b'{"text": "long"}\n' * 99)[:-12])
    for name, message in (
        ("a.json", "is no JSON in line 2"),
        ("b.jsonl", "has no field 'text' in line 1"),
        ("c.json.gz", "text must be a file of calibration text, got .*c.json.gz"),
        ("none.json", "none.json' .No such file"),
    ):
        with pytest.raises(UserError, match=message):
            windows_of_documents(tmp_path / name, by_character, 200, 2, seed=0)
