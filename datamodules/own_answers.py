"""Tasks whose rows bring their own answers: what an encoder needs to know of them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from zolit.datamodules.chat import ChatTemplate
from zolit.datamodules.filling import Words, columns_of, fill
from zolit.datamodules.template import MASK
from zolit.errors import UserError
from zolit.objectives.answer_batch import Writing


@dataclass(frozen=True)
class RowAnswers:
    """The answers of one row.

    Attributes:
        spoken: those that are scored, as they read behind the prompt: all options, or the one
            answer that is to be learnt.
        right: numbers of the right ones among ``spoken``; empty where it is not known.
        options: text of each option; empty if the row has none.
        accepted: the parts of each answer that is right if it is written, such as
            ``(("3",), ("three",))``; empty where it is not known.
    """

    spoken: tuple[str, ...]
    right: tuple[int, ...]
    options: tuple[str, ...] = ()
    accepted: tuple[tuple[str, ...], ...] = ()


class OwnAnswersTask(ABC):
    """A prompt template whose answers stand in the row.

    Attributes:
        chooses: whether a row has several answers to choose from.
        template: the prompt, see `Task`; the answer follows it.
        label: name of the column that says which answer is right.
        values: for columns of the template the word of each value.
        answers: None, as no answer is common to all rows.
        labels: None likewise.
        ignore: no label is ignored.
    """

    chooses: ClassVar[bool]
    answers: ClassVar[None] = None
    labels: ClassVar[None] = None
    ignore: ClassVar[tuple[str, ...]] = ()
    template: str
    label: str
    values: Words

    @property
    @abstractmethod
    def columns(self) -> list[str]:
        """The columns that are read beside ``label``: they make two rows the same or not."""

    @abstractmethod
    def validate(self) -> None:
        """Check the description of the task.

        Raises:
            UserError: naming the part that cannot be.
        """

    @abstractmethod
    def row_answers(
        self, row: Mapping[str, Any], number: int | None = None, labelled: bool = True
    ) -> RowAnswers:
        """The answers of a row.

        Args:
            row: value of each column.
            number: of the row in its file, for messages.
            labelled: whether the row says which is right.

        Raises:
            UserError: there is no answer, or no right one.
        """

    def prompt(
        self,
        row: Mapping[str, Any],
        mask: str | None = None,
        chat: ChatTemplate | None = None,
        number: int | None = None,
    ) -> str:
        """The filled template; it ends where the answer begins, without blanks.

        Args:
            row: value of each column.
            mask: of a masked model, which these tasks do not fit.
            chat: turns chat messages into text.
            number: of the row in its file, for messages.

        Raises:
            UserError: for a masked model, or if a value is no text.
        """
        if mask is not None:
            raise UserError(
                f"task: a {type(self).__name__} needs a causal model, as its answers have several "
                "tokens, got a masked one; use another model"
            )
        text = fill(self.template, row, words=self.values, chat=chat, number=number)
        return text.rstrip(" ")

    def writing(self, tokenizer: Any) -> Writing | None:
        """How the answers are written by a model; None where they are chosen, as by default.

        Args:
            tokenizer: of transformers.
        """
        return None

    def is_ignored(self, label: Any) -> bool:
        """Whether rows with this label are dropped: none are."""
        return False

    def template_columns(self) -> list[str]:
        """Columns of the template.

        Raises:
            UserError: there is none, or the template places a mask.
        """
        found = columns_of(self.template)
        if MASK in found:
            raise UserError(
                "task.template: it has a {mask}, which only masked models fill; end the template "
                "where the answer begins."
            )
        if not found:
            raise UserError(
                f"task.template: {self.template!r} names no column; put at least one in braces, "
                "for example 'Question: {question}\\nAnswer:'."
            )
        return found


def where(number: int | None) -> str:
    """A row in words, for messages."""
    return "a row" if number is None else f"row {number}"
