"""Classification as completion: a prompt template and a word for each label."""

import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zolit.datamodules.names import nearest
from zolit.errors import UserError

FILTERS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "capital": lambda text: text[:1].upper() + text[1:],
    "uncapital": lambda text: text[:1].lower() + text[1:],
    "question": lambda text: text if text.endswith("?") else text + "?",
    "unpunctuated": lambda text: text[:-1] if text[-1:] in string.punctuation else text,
}
MASK = "mask"
PLACE = re.compile(r"\{([\w.]+)((?:\|\w+)*)\}")


@dataclass(frozen=True)
class Task:
    """How a row becomes a prompt and its label an answer.

    Attributes:
        template: the prompt, with columns in braces, for example ``"{text} It was"``. The answer
            is scored after it. ``{column|lower}`` passes a column through filters: ``lower``,
            ``capital`` and ``uncapital`` (first letter), ``question`` (ends in a question mark),
            ``unpunctuated`` (without a final punctuation mark). ``{mask}`` is the answer's place
            for masked models; without it they get ``" {mask}."`` at the end.
        words: the answer word of each label, for example ``{0: terrible, 1: great}``. Labels with
            the same word are one class.
        label: name of the column of labels.
        ignore: labels whose rows are dropped.
    """

    template: str
    words: Mapping[str, str | int | bool]
    label: str = "label"
    ignore: Sequence[str | int | bool] = ()

    def __post_init__(self) -> None:
        # Booleans are kept as they are: `validate` tells what to do about them.
        words = {
            label_key(label): word if isinstance(word, bool) else str(word)
            for label, word in self.words.items()
        }
        object.__setattr__(self, "words", words)
        object.__setattr__(self, "ignore", [label_key(label) for label in self.ignore])

    def validate(self) -> None:
        """Check template and words.

        Not done at construction: jsonargparse tries a Task among other types and would bury the
        message under those of the others.

        Raises:
            UserError: no column or an unknown filter in the template, fewer than two different
                words, or a word that YAML read as true or false.
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
        for match in PLACE.finditer(self.template):
            for name in match[2].split("|")[1:]:
                if name not in FILTERS:
                    raise UserError(
                        f"task.template: there is no filter {name!r} (in {match[0]!r}); nearest: "
                        f"{nearest(name, FILTERS)}."
                    )
        if len(self.answers) < 2 or not all(word.strip() for word in self.answers):
            raise UserError(
                f"task.words: got {self.words}, at least two different words are expected; give "
                "each label the word that answers the prompt."
            )

    @property
    def columns(self) -> list[str]:
        """Columns that the template reads, in order."""
        names = [match[1] for match in PLACE.finditer(self.template)]
        return [name for name in dict.fromkeys(names) if name != MASK]

    @property
    def answers(self) -> list[str]:
        """The different answer words; an index into them is a class."""
        return list(dict.fromkeys(str(word) for word in self.words.values()))

    @property
    def labels(self) -> list[str]:
        """The label of each of `answers`: the first that is given its word."""
        first: dict[str, str] = {}
        for label, word in self.words.items():
            first.setdefault(str(word), label)
        return list(first.values())

    @property
    def has_mask(self) -> bool:
        """Whether the template places the answer itself."""
        return any(match[1] == MASK for match in PLACE.finditer(self.template))

    def prompt(self, row: dict[str, Any], mask: str | None = None) -> str:
        """The filled template.

        Args:
            row: value of each column.
            mask: the mask token of a masked model; None for a causal model, whose prompt ends
                where the answer begins, without blanks (line ends stay).

        Raises:
            UserError: the template places a mask and the model has none.
        """
        if mask is None and self.has_mask:
            raise UserError(
                "task.template: it has a {mask}, which only masked models fill; end the template "
                "where the answer begins for a causal model."
            )

        def fill(match: re.Match[str]) -> str:
            if match[1] == MASK:
                return str(mask)
            text = str(row[match[1]])
            for name in match[2].split("|")[1:]:
                text = FILTERS[name](text)
            return text

        text = PLACE.sub(fill, self.template)
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
        if key not in self.words:
            raise UserError(
                f"task.words: label {key!r} of column {self.label!r} has no word; add one, or list "
                f"the label in task.ignore (labels with words: {', '.join(self.words)})."
            )
        return self.answers.index(str(self.words[key]))


def label_key(label: Any) -> str:
    """How a label is spelled as a key of ``words``: ``1``, ``1.0`` and ``"1"`` are one label, and
    so are ``True``, ``"true"`` and ``"True"``."""
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    key = str(label).strip()
    return key.lower() if key in ("True", "False") else key
