"""The template of a prompt: text with columns in braces."""

import re
import string
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from zolit.errors import UserError, nearest

FILTERS: dict[str, Callable[[str], str]] = {
    "lower": str.lower,
    "capital": lambda text: text[:1].upper() + text[1:],
    "uncapital": lambda text: text[:1].lower() + text[1:],
    "question": lambda text: text if text.endswith("?") else text + "?",
    "midsentence": lambda text: _midsentence(text),
    "highlights": lambda text: text.replace("@highlight\n", "- "),
    "unpunctuated": lambda text: text[:-1] if text[-1:] in string.punctuation else text,
}
JOIN = "join"
"""The filter that reads a list of words as text; it comes first."""

MASK = "mask"

CHAT = "chat"
"""The template of rows that are conversations, in a column ``messages``."""

_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


@dataclass(frozen=True)
class Place:
    """Where a column's value goes.

    Attributes:
        column: its name, or ``mask``.
        filters: names of filters, in order.
    """

    column: str
    filters: tuple[str, ...] = ()


@lru_cache
def parsed(template: str) -> tuple[str | Place, ...]:
    """The texts and places of a template, in order.

    ``{name}`` and ``{name|filter}`` are places, ``{{`` and ``}}`` are braces of the text. Blanks
    beside a name or a filter are left out; within a name they belong to it. The template ``chat``
    is short for ``{messages}``.

    Raises:
        UserError: a brace that is part of neither, a place without a name, or an unknown filter.
    """
    if template == CHAT:
        return (Place("messages"),)
    parts: list[str | Place] = []
    text, end = "", 0
    for match in _TOKEN.finditer(template):
        text += template[end : match.start()]
        end = match.end()
        if match[0] in ("{{", "}}"):
            text += match[0][0]
            continue
        if match[1] is None:
            raise UserError(
                f"task.template: the brace in {_around(template, match.start())!r} has no partner; "
                "write {{ or }} for a brace that is text."
            )
        parts += [text, _place(match[0], match[1])]
        text = ""
    return tuple(part for part in [*parts, text + template[end:]] if part != "")


def doubled(template: str) -> list[str]:
    """Names in double braces, such as ``text`` in ``{{ text }}``: they look like columns, and are
    read as text."""
    return re.findall(r"\{\{\s*([^{}|]*?)\s*\}\}", template)


def _midsentence(text: str) -> str:
    """The text as it reads within a sentence: its first word in lower case, unless it is ``I``."""
    first, blank, rest = text.partition(" ")
    return (first if first == "I" else first.lower()) + blank + rest


def _place(written: str, inside: str) -> Place:
    name, *filters = (part.strip() for part in inside.split("|"))
    if not name:
        raise UserError(
            f"task.template: {written!r} names no column; write the name of one, or {{{{ and }}}} "
            "for braces that are text."
        )
    for position, one in enumerate(filters):
        if one == JOIN and position:
            raise UserError(f"task.template: {JOIN} comes first in {written!r}; put it there.")
        if one != JOIN and one not in FILTERS:
            raise UserError(
                f"task.template: there is no filter {one!r} (in {written!r}); nearest: "
                f"{nearest(one, [*FILTERS, JOIN])}."
            )
    return Place(name, tuple(filters))


def _around(text: str, position: int) -> str:
    return text[max(0, position - 10) : position + 10]
