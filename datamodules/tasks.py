"""Classification as completion: a prompt template and a word for each label."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from zolit.arguments import check_constructor
from zolit.datamodules.chat import ChatTemplate
from zolit.datamodules.filling import columns_of, fill
from zolit.datamodules.template import MASK, Place, parsed
from zolit.errors import UserError

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)")


@check_constructor
@dataclass(frozen=True)
class Task:
    """How a row becomes a prompt and its label an answer.

    Attributes:
        template: the prompt, with columns in braces, for example ``"{text} It was"``. The answer
            is scored after it. ``{column|lower}`` passes a column through filters: ``lower``,
            ``capital`` and ``uncapital`` (first letter), ``question`` (ends in a question mark),
            ``unpunctuated`` (without a final punctuation mark); ``join`` joins a list of words.
            ``{mask}`` is the answer's place for masked models; without it they get
            ``" {mask}."`` at the end. ``{{`` and ``}}`` are braces of the text.
        words: the answer word of each label, for example ``{0: terrible, 1: great}``. Labels with
            the same word are one class.
        label: name of the column of labels.
        ignore: labels whose rows are dropped.

    Example:
        >>> task = Task("{text} It was", {0: "terrible", 1: "great"})
        >>> task.prompt({"text": "A fine film."})
        'A fine film. It was'
        >>> task.answers[task.class_of(1)]
        'great'
    """

    template: str
    words: Mapping[str, str | int | bool]
    label: str = "label"
    ignore: Sequence[str | int | bool] = ()
    _classes: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Booleans are kept as they are: `validate` tells what to do about them.
        words = {
            label if isinstance(label, str) else label_key(label): (
                word if isinstance(word, bool) else str(word)
            )
            for label, word in self.words.items()
        }
        object.__setattr__(self, "words", words)
        place = {word: index for index, word in enumerate(self.answers)}
        classes = {label_key(label): place[str(word)] for label, word in words.items()}
        object.__setattr__(self, "_classes", classes)
        object.__setattr__(self, "ignore", [label_key(label) for label in self.ignore])

    def validate(self) -> None:
        """Check template and words.

        Not done at construction: jsonargparse tries a Task among other types and would bury the
        message under those of the others.

        Raises:
            UserError: no column, a stray brace or an unknown filter in the template, fewer than
                two different words, one label with two words, a word with blanks at its ends, or
                a word that YAML read as true or false.
        """
        for label, word in self.words.items():
            if isinstance(word, bool):
                raise UserError(
                    f"task.words: got {word} for label {label!r}, a word is expected; YAML reads a "
                    "bare Yes or No as true or false, so put it in quotes."
                )
        if not self.columns:
            raise UserError(
                f"task.template: {self.template!r} names no column; put at least one in braces, "
                "for example '{text} It was'."
            )
        for label, word in self.words.items():
            if not str(word).strip():
                raise UserError(
                    f"task.words: the word of label {label!r} is empty; give it the word that "
                    "answers the prompt, or list the label in task.ignore to drop its rows."
                )
        if len(self.answers) < 2:
            raise UserError(
                f"task.words: got {self.words}, at least two different words are expected; give "
                "each label the word that answers the prompt."
            )
        for word in self.answers:
            if word != word.strip():
                raise UserError(
                    f"task.words: {word!r} has white space at an end; write {word.strip()!r}, the "
                    "blank between prompt and answer is added."
                )
        first: dict[str, str] = {}
        for label in self.words:
            one = first.setdefault(label_key(label), label)
            if self.words[one] != self.words[label]:
                raise UserError(
                    f"task.words: {one!r} and {label!r} are one label and have two words, "
                    f"{self.words[one]!r} and {self.words[label]!r}; give it one."
                )

    @property
    def columns(self) -> list[str]:
        """Columns that the template reads, in order."""
        return columns_of(self.template, (MASK,))

    @property
    def answers(self) -> list[str]:
        """The different answer words; an index into them is a class."""
        return list(dict.fromkeys(str(word) for word in self.words.values()))

    @property
    def labels(self) -> list[str]:
        """For each of `answers` the first label that has this word."""
        first: dict[str, str] = {}
        for label, word in self.words.items():
            first.setdefault(str(word), label)
        return list(first.values())

    @property
    def has_mask(self) -> bool:
        """Whether the template places the answer itself."""
        return any(
            isinstance(part, Place) and part.column == MASK for part in parsed(self.template)
        )

    def prompt(
        self,
        row: dict[str, Any],
        mask: str | None = None,
        chat: ChatTemplate | None = None,
        number: int | None = None,
    ) -> str:
        """The filled template.

        Args:
            row: value of each column.
            mask: the mask token of a masked model; None for a causal model, whose prompt ends
                where the answer begins, without blanks (line ends stay).
            chat: turns chat messages into text. If the template ends in messages, the assistant's
                turn is opened behind them.
            number: of the row in its file, for messages.

        Raises:
            UserError: the template places a mask and the model has none, or a value is no text.
        """
        if mask is None and self.has_mask:
            raise UserError(
                "task.template: it has a {mask}, which only masked models fill; end the template "
                "where the answer begins for a causal model."
            )
        given = {} if mask is None else {MASK: mask}
        text = fill(self.template, row, given, chat=chat, number=number)
        if mask is None:
            return text.rstrip(" ")
        return text if self.has_mask else f"{text.rstrip()} {mask}."

    def is_ignored(self, label: Any) -> bool:
        """Whether rows with this label are dropped."""
        return label_key(label) in self.ignore

    def class_of(self, label: Any) -> int:
        """Index into ``answers``.

        Raises:
            UserError: the label has no word.
        """
        key = label_key(label)
        index = self._classes.get(key)
        if index is None:
            raise UserError(
                f"task.words: label {key!r} of column {self.label!r} has no word; add one, or list "
                f"the label in task.ignore (labels with words: {', '.join(self.words)})."
            )
        return index


def label_key(label: Any) -> str:
    """How a label is spelled when it is compared: ``1``, ``1.0``, ``"1"`` and ``"01"`` are one
    label, and so are ``True``, ``"true"`` and ``"TRUE"``."""
    key = str(label).strip()
    if _NUMBER.fullmatch(key):
        number = Decimal(key)
        return str(int(number)) if number == int(number) else f"{number.normalize():f}"
    return key.lower() if key.lower() in ("true", "false") else key
