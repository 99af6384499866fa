"""Multiple choice: each row has options of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from zolit.arguments import check_constructor
from zolit.datamodules.filling import columns_of, fill
from zolit.datamodules.own_answers import OwnAnswersTask, RowAnswers, where
from zolit.datamodules.tasks import label_key
from zolit.datamodules.values import UnfitValueError, plain, text_of
from zolit.errors import UserError

OPTION = "option"
"""The place of an option in `ChoiceTask.option`."""

LabelAs = Literal["index", "name", "text"]


@check_constructor
@dataclass(frozen=True)
class ChoiceTask(OwnAnswersTask):
    """A prompt, and options of which one is right, in each row.

    The score of an option is the mean log-probability of its tokens behind the prompt (Malladi et
    al. 2023, arXiv 2305.17333, appendix on prompts).

    Attributes:
        template: the prompt, see `Task`; the option follows it.
        options: the columns that hold one option each, or one column with a list of them.
        label: name of the column that says which option is right.
        label_as: what that column holds: ``index``, the number of the option from 0 on; ``name``,
            one of ``names``; or ``text``, the option itself, or a list of right ones.
        names: of the options in their order, or one column with a list of them.
        option: how an option reads behind the prompt: ``{option}`` is its text, other braces are
            columns, and filters do as in ``template``.
        placeholder: what the option replaces in the other text of ``option``; empty for nothing.
        values: for columns of the template the word of each value, such as
            ``{question: {cause: because, effect: so}}``.

    Example:
        >>> task = ChoiceTask("Question: {goal}\\nAnswer:", ["sol1", "sol2"])
        >>> row = {"goal": "cool soup", "sol1": "Wait.", "sol2": "Cook it.", "label": 0}
        >>> task.prompt(row), task.row_answers(row).spoken, task.row_answers(row).right
        ('Question: cool soup\\nAnswer:', ('Wait.', 'Cook it.'), (0,))
    """

    template: str
    options: Sequence[str]
    label: str = "label"
    label_as: LabelAs = "index"
    names: Sequence[str] = ()
    option: str = "{option}"
    placeholder: str = ""
    values: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    chooses: ClassVar[bool] = True

    @property
    def columns(self) -> list[str]:
        within = columns_of(self.option, (OPTION,))
        listed = [self.names[0]] if self._names_are_listed else []
        return list(dict.fromkeys([*columns_of(self.template), *within, *self.options, *listed]))

    @property
    def _names_are_listed(self) -> bool:
        """Whether the names stand in a column of the rows."""
        return len(self.names) == 1

    def validate(self) -> None:
        self.template_columns()
        if not self.options:
            raise UserError(
                "task.options: got none; name the columns that hold an option each, or the one "
                "that holds a list of them"
            )
        if OPTION not in columns_of(self.option) and not self.placeholder:
            raise UserError(
                f"task.option: {self.option!r} has no place {{{OPTION}}}; put it where the option "
                "stands, or name the text that the option replaces in task.placeholder"
            )
        if (self.label_as == "name") != bool(self.names):
            raise UserError(
                f"task.names: got {list(self.names)} with label_as: {self.label_as}; give the "
                "names of the options, or the column that lists them, with label_as: name alone"
            )

    def row_answers(
        self, row: Mapping[str, Any], number: int | None = None, labelled: bool = True
    ) -> RowAnswers:
        texts = self._texts(row, number)
        if self.label_as == "text":  # entities of a passage come more than once
            texts = list(dict.fromkeys(texts))
        spoken = tuple(self._spoken(row, text, number) for text in texts)
        right = self._right(row, texts, number) if labelled else ()
        return RowAnswers(spoken, right, options=tuple(texts))

    def _texts(self, row: Mapping[str, Any], number: int | None) -> list[str]:
        found: list[str] = []
        for column in self.options:
            value = plain(row[column])
            for one in value if isinstance(value, list) else [value]:
                try:
                    text = text_of(one).strip()
                except UnfitValueError as error:
                    raise UserError(
                        f"rows: an option of {where(number)} in column {column!r} is {error}."
                    ) from error
                if not text:
                    raise UserError(
                        f"rows: {where(number)} has an empty option in column {column!r}; fill it "
                        "in or drop the row."
                    )
                found.append(text)
        if len(found) < 2:
            raise UserError(
                f"rows: {where(number)} has {len(found)} option(s) in column(s) "
                f"{', '.join(self.options)}, at least two are expected; fill them in or drop the "
                "row."
            )
        return found

    def _spoken(self, row: Mapping[str, Any], text: str, number: int | None) -> str:
        found = fill(self.option, row, {OPTION: text}, self.values, number=number)
        if not self.placeholder:
            return found.strip()
        if self.placeholder not in found:
            raise UserError(
                f"task.placeholder: {where(number)} has no {self.placeholder!r} in "
                f"{self.option!r}, which the option would replace; fill it in or drop the row"
            )
        return found.replace(self.placeholder, text).strip()

    def _right(
        self, row: Mapping[str, Any], texts: Sequence[str], number: int | None
    ) -> tuple[int, ...]:
        label = plain(row[self.label])
        named = label if isinstance(label, list) else [label]
        places = {"index": self._by_index, "name": self._by_name, "text": self._by_text}
        golds = places[self.label_as](row, texts, named)
        # Another option with the text of a right one is right too.
        right = tuple(place for place, text in enumerate(texts) if text in golds)
        if not right:
            raise UserError(
                f"rows: {self.label!r} of {where(number)} is {_short(label)}, which as "
                f"label_as: {self.label_as} is none of its {len(texts)} options; correct the row, "
                "task.label or task.label_as"
            )
        return right

    def _by_index(self, row: Mapping[str, Any], texts: Sequence[str], named: list[Any]) -> set[str]:
        places = {str(place): text for place, text in enumerate(texts)}
        return {places[key] for key in map(label_key, named) if key in places}

    def _by_name(self, row: Mapping[str, Any], texts: Sequence[str], named: list[Any]) -> set[str]:
        listed = plain(row[self.names[0]]) if self._names_are_listed else list(self.names)
        names = listed if isinstance(listed, list) else [listed]
        if len(names) != len(texts):
            raise UserError(
                f"task.names: a row with {self.label!r} {_short(named[0])} has {len(texts)} "
                f"options and {len(names)} names, {_short(names)}; give each option its name"
            )
        keys = {label_key(one) for one in named}
        pairs = zip(map(label_key, names), texts, strict=True)
        return {text for name, text in pairs if name in keys}

    def _by_text(self, row: Mapping[str, Any], texts: Sequence[str], named: list[Any]) -> set[str]:
        return {str(one).strip() for one in named}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
