"""Rows of a task as examples and batches, for each kind of task."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from zolit.datamodules.collate import Collate
from zolit.datamodules.encode import Encoder
from zolit.datamodules.encode_own import OwnCollate, OwnEncoder
from zolit.datamodules.own_answers import OwnAnswersTask
from zolit.datamodules.tasks import Task

AnyTask = Task | OwnAnswersTask


class Reader(Protocol):
    """Makes examples of rows, and batches of examples.

    Attributes:
        collate: makes a batch of some examples; None before `learn`.
    """

    collate: Any

    def learn(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> None:
        """Find out what all rows have in common, from some of them."""

    def examples(
        self, rows: Sequence[dict[str, Any]], numbers: Sequence[int], labelled: bool = True
    ) -> list[Any]:
        """The examples of rows."""


class WordReader:
    """Of a task with one word for each label."""

    def __init__(self, task: Task, pad_id: int, **options: Any) -> None:
        self.encoder = Encoder(task, **options)
        self.pad_id = pad_id
        self.collate: Collate | None = None

    def learn(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> None:
        self.collate = Collate(self.encoder.answers(rows, numbers), self.pad_id)

    def examples(
        self, rows: Sequence[dict[str, Any]], numbers: Sequence[int], labelled: bool = True
    ) -> list[Any]:
        length = 0 if self.collate is None else self.collate.answer_length
        return self.encoder.examples(rows, numbers, length, labelled)


class OwnReader:
    """Of a task whose rows bring their own answers."""

    def __init__(self, task: OwnAnswersTask, pad_id: int, **options: Any) -> None:
        self.encoder = OwnEncoder(task, **options)
        self.collate = OwnCollate(pad_id, task.writing(self.encoder.tokenizer))

    def learn(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> None:
        """Nothing: each row has answers of its own."""

    def examples(
        self, rows: Sequence[dict[str, Any]], numbers: Sequence[int], labelled: bool = True
    ) -> list[Any]:
        writing = self.collate.writing
        written = 0 if writing is None else writing.most
        found = self.encoder.examples(rows, numbers, written, labelled)
        self.collate.width = max(self.collate.width, *(len(one.answers) for one in found), 0)
        return found


def reader_of(task: AnyTask) -> Callable[..., Reader]:
    """The class that reads rows of a task."""
    return OwnReader if isinstance(task, OwnAnswersTask) else WordReader
