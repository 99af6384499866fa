"""Nested files of benchmarks as rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from zolit.datamodules import BenchmarkRows
from zolit.datamodules.prompts import task_named
from zolit.errors import UserError

PASSAGE = "Ada met Bob."
FILES: dict[str, tuple[Any, list[dict[str, Any]]]] = {
    "multirc": (
        [
            {
                "passage": {
                    "text": PASSAGE,
                    "questions": [
                        {
                            "question": "Who?",
                            "answers": [{"text": "Ada", "label": 1}, {"text": "Eve", "label": 0}],
                        }
                    ],
                }
            }
        ],
        [
            {"paragraph": PASSAGE, "question": "Who?", "answer": "Ada", "label": 1},
            {"paragraph": PASSAGE, "question": "Who?", "answer": "Eve", "label": 0},
        ],
    ),
    "record": (
        [
            {
                "passage": {
                    "text": PASSAGE,
                    "entities": [
                        {"start": 0, "end": 2},
                        {"start": 8, "end": 10},
                        {"start": 0, "end": 2},
                    ],
                },
                "qas": [{"query": "@placeholder won", "answers": [{"text": "Bob"}] * 2}],
            }
        ],
        [
            {
                "passage": PASSAGE,
                "query": "@placeholder won",
                "entities": ["Ada", "Bob"],
                "answers": ["Bob"],
            }
        ],
    ),
    "squad": (
        {
            "data": [
                {
                    "title": "A_town",
                    "paragraphs": [
                        {
                            "context": PASSAGE,
                            "qas": [{"question": " Who?", "answers": [{"text": "Ada"}] * 2}],
                        }
                    ],
                }
            ]
        },
        [{"title": "A town", "context": PASSAGE, "question": "Who?", "text": ["Ada"]}],
    ),
    "drop": (
        {
            "one": {
                "passage": PASSAGE,
                "qa_pairs": [
                    {
                        "question": "How many?",
                        "answer": {"number": "2", "date": {}, "spans": []},
                        "validated_answers": [
                            {
                                "number": "",
                                "date": {"day": "3", "month": "May", "year": "1900"},
                                "spans": [],
                            }
                        ],
                    },
                    {
                        "question": "Who?",
                        "answer": {"number": "", "date": {}, "spans": ["Ada", "Bob"]},
                    },
                ],
            }
        },
        [
            {"passage": PASSAGE, "question": "How many?", "answers": ["2", "3 May 1900"]},
            {"passage": PASSAGE, "question": "Who?", "answers": [["Ada", "Bob"]]},
        ],
    ),
    "arc": (
        [
            {
                "question": {"stem": "Who?", "choices": [{"text": "Ada", "label": "A"}]},
                "answerKey": "A",
            }
        ],
        [{"question": "Who?", "text": ["Ada"], "label": ["A"], "answerKey": "A"}],
    ),
}


@pytest.mark.parametrize("form", FILES)
def test_forms(form: Any, tmp_path: Path) -> None:
    content, rows = FILES[form]
    lines = content if isinstance(content, list) else [content]
    file = tmp_path / "rows.json"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert BenchmarkRows(str(file), form).read().to_dict("records") == rows
    wrong = "squad" if form != "squad" else "drop"
    with pytest.raises(UserError, match=f"is not of the form {wrong}"):
        BenchmarkRows(str(file), wrong).read()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        BenchmarkRows(str(tmp_path / "none.jsonl"), "arc").read()


def test_the_shared_files(shared_data: Path) -> None:
    rows = BenchmarkRows(str(shared_data / "fewglue32/ReCoRD/train.jsonl"), "record").read()
    for number, row in enumerate(rows.to_dict("records")):
        found = task_named("record").row_answers(row, number)
        assert 2 <= len(found.spoken) <= 40
        assert found.right
    rows = BenchmarkRows(str(shared_data / "superglue/MultiRC/train.jsonl"), "multirc").read()
    assert len(rows) == 27243
    assert set(rows["label"]) == {0, 1}
