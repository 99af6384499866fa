"""Answers that a model writes: questions with accepted answers in each row."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from zolit.arguments import at_least, check_constructor
from zolit.datamodules.own_answers import OwnAnswersTask, RowAnswers, where
from zolit.datamodules.values import UnfitValueError, plain, text_of
from zolit.errors import UserError
from zolit.objectives.answer_batch import Writing


@check_constructor
@dataclass(frozen=True)
class GenerationTask(OwnAnswersTask):
    """A prompt behind which the model writes its answer, greedily.

    Attributes:
        template: the prompt, see `Task`; the answer follows it.
        max_new_tokens: most tokens that are written.
        label: name of the column of the answer: a text, or a list of accepted ones, of which the
            first is the one to learn. An accepted answer may itself be a list of parts (DROP).
        stop: texts that end an answer. The first of them stands behind the answer that is learnt,
            so that a tuned model ends there too.
        values: for columns of the template the word of each value.

    Example:
        >>> task = GenerationTask("Question: {question}\\nAnswer:", max_new_tokens=8)
        >>> task.row_answers({"question": "How many?", "answer": 3})
        RowAnswers(spoken=('3\\n',), right=(0,), options=(), accepted=(('3',),))
    """

    template: str
    max_new_tokens: int
    label: str = "answer"
    stop: Sequence[str] = ("\n",)
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    chooses: ClassVar[bool] = False

    @property
    def columns(self) -> list[str]:
        return self.template_columns()

    def validate(self) -> None:
        self.template_columns()
        at_least("task.max_new_tokens", self.max_new_tokens, instead="try 32")
        if not all(self.stop):
            raise UserError("task.stop: got an empty text, which would end every answer at once")

    def writing(self, tokenizer: Any) -> Writing:
        end = getattr(tokenizer, "eos_token_id", None)
        ends = (end,) if isinstance(end, int) else ()
        return Writing(tokenizer, self.max_new_tokens, ends, tuple(self.stop))

    def row_answers(
        self, row: Mapping[str, Any], number: int | None = None, labelled: bool = True
    ) -> RowAnswers:
        if not labelled:
            return RowAnswers((), ())
        value = plain(row[self.label])
        accepted = value if isinstance(value, list) else [value]
        parts = [self._parts(one, number) for one in accepted]
        if not parts or not all(parts):
            raise UserError(
                f"rows: {where(number)} has an empty answer in column {self.label!r}; fill it in "
                "or drop the row."
            )
        end = self.stop[0] if self.stop else ""
        accepted_once = tuple(dict.fromkeys(map(tuple, parts)))
        return RowAnswers((", ".join(parts[0]) + end,), (0,), accepted=accepted_once)

    def _parts(self, answer: Any, number: int | None) -> list[str]:
        listed = answer if isinstance(answer, list) else [answer]
        try:
            texts = [text_of(one).strip() for one in listed]
        except UnfitValueError as error:
            raise UserError(
                f"rows: the answer of {where(number)} in column {self.label!r} is {error}."
            ) from error
        return texts if all(texts) else []


def with_length(task: Any, most: int) -> GenerationTask:
    """A task with written answers of another length.

    Args:
        task: of any kind.
        most: tokens of an answer at most.

    Raises:
        UserError: its answers are not written.
    """
    if not isinstance(task, GenerationTask):
        raise UserError(
            f"max_new_tokens: got {most} with a {type(task).__name__}, whose answers are chosen, "
            "not written; leave it out"
        )
    return replace(task, max_new_tokens=most)
