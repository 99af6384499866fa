"""Rows of nested files as benchmarks publish them."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from zolit.datamodules.rows import RowSource, missing_file
from zolit.datamodules.text_file import text_of_file
from zolit.errors import UserError
from zolit.packages import find_in_package

Form = Literal["multirc", "record", "squad", "drop", "arc"]


class BenchmarkRows(RowSource):
    """Rows of a file that nests questions within passages.

    Args:
        path: the file; ``.gz``, ``.bz2`` and ``.xz`` are read as they are. With ``package``, its
            path inside that distribution.
        form: ``multirc`` and ``record`` (JSON lines of SuperGLUE), ``squad`` and ``drop`` (the
            published JSON), ``arc`` (JSON lines). The columns are those of the same set on the hub:
            paragraph, question, answer, label; passage, query, entities, answers; title, context,
            question, text (a list); passage, question, answers (a list of accepted answers, each a
            text or a list of texts); question, text (a list), label (a list), answerKey.
        package: name of an installed pip distribution. Nothing of it is imported.

    Example:
        ::

            rows:
              class_path: BenchmarkRows
              init_args:
                path: ReCoRD/train.jsonl
                form: record
    """

    def __init__(self, path: str, form: Form, package: str | None = None) -> None:
        self.path = path
        self.form = form
        self.package = package

    def read(self) -> pd.DataFrame:
        if self.package is None:
            file = Path(self.path).expanduser()
        else:
            file = find_in_package(self.package, self.path)
        if not file.is_file():
            raise UserError(missing_file(file))
        try:
            rows = list(_FORMS[self.form](text_of_file(file, "utf-8")))
        except UserError:
            raise
        # Of a file of another form any step may fail.
        except (ValueError, TypeError, LookupError, AttributeError, OSError) as error:
            raise UserError(
                f"rows.form: {str(file)!r} is not of the form {self.form} "
                f"({type(error).__name__}: {error}); check path and form, or use FileRows."
            ) from error
        return pd.DataFrame(rows)


def _lines(text: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in text.splitlines() if line.strip())


def _multirc(text: str) -> Iterator[dict[str, Any]]:
    for one in _lines(text):
        for asked in one["passage"]["questions"]:
            for answer in asked["answers"]:
                yield {
                    "paragraph": one["passage"]["text"],
                    "question": asked["question"],
                    "answer": answer["text"],
                    **({"label": answer["label"]} if "label" in answer else {}),
                }


def _record(text: str) -> Iterator[dict[str, Any]]:
    for one in _lines(text):
        passage = one["passage"]["text"]
        # The published ends are those of the last characters.
        places = [(place["start"], place["end"] + 1) for place in one["passage"]["entities"]]
        entities = list(dict.fromkeys(passage[start:end] for start, end in places))
        for asked in one["qas"]:
            answers = [answer["text"] for answer in asked.get("answers", [])]
            yield {
                "passage": passage,
                "query": asked["query"],
                "entities": entities,
                **({"answers": list(dict.fromkeys(answers))} if answers else {}),
            }


def _squad(text: str) -> Iterator[dict[str, Any]]:
    for article in json.loads(text)["data"]:
        for paragraph in article["paragraphs"]:
            for asked in paragraph["qas"]:
                answers = [answer["text"] for answer in asked.get("answers", [])]
                yield {
                    "title": article.get("title", "").replace("_", " "),
                    "context": paragraph["context"],
                    "question": asked["question"].strip(),
                    **({"text": list(dict.fromkeys(answers))} if answers else {}),
                }


def _drop(text: str) -> Iterator[dict[str, Any]]:
    for one in json.loads(text).values():
        for asked in one["qa_pairs"]:
            given = [asked[name] for name in ("answer",) if name in asked]
            accepted = [_drop_answer(answer) for answer in given + _validated(asked)]
            answers = [answer for answer in accepted if answer]
            yield {
                "passage": one["passage"],
                "question": asked["question"].strip(),
                **({"answers": answers} if answers else {}),
            }


def _validated(asked: dict[str, Any]) -> list[Any]:
    return list(asked.get("validated_answers", []))


def _drop_answer(answer: dict[str, Any]) -> str | list[str]:
    """An answer of DROP: a number, a date, a span, or several spans."""
    if answer.get("number"):
        return str(answer["number"])
    spans = [str(span) for span in answer.get("spans", [])]
    if spans:
        return spans if len(spans) > 1 else spans[0]
    date = answer.get("date") or {}
    return " ".join(str(date[part]) for part in ("day", "month", "year") if date.get(part))


def _arc(text: str) -> Iterator[dict[str, Any]]:
    for one in _lines(text):
        choices = one["question"]["choices"]
        yield {
            "question": one["question"]["stem"],
            "text": [choice["text"] for choice in choices],
            "label": [choice["label"] for choice in choices],
            **({"answerKey": one["answerKey"]} if "answerKey" in one else {}),
        }


_FORMS: dict[str, Callable[[str], Iterable[dict[str, Any]]]] = {
    "multirc": _multirc,
    "record": _record,
    "squad": _squad,
    "drop": _drop,
    "arc": _arc,
}
