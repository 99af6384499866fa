"""Fills a template with the values of a row."""

from collections.abc import Mapping
from typing import Any

from zolit.datamodules.chat import ChatTemplate, is_chat
from zolit.datamodules.template import FILTERS, JOIN, Place, parsed
from zolit.datamodules.values import UnfitValueError, joined, plain, text_of
from zolit.errors import UserError, nearest

Words = Mapping[str, Mapping[str, str]]
"""For some columns the words that stand in a prompt for their values."""


def fill(
    template: str,
    row: Mapping[str, Any],
    given: Mapping[str, str] | None = None,
    words: Words | None = None,
    chat: ChatTemplate | None = None,
    number: int | None = None,
) -> str:
    """The text of a template.

    Args:
        template: with columns in braces, see `zolit.datamodules.template.parsed`.
        row: value of each column.
        given: texts of places that are no columns, such as ``mask``, by name.
        words: for some columns the word of each value.
        chat: turns chat messages into text. If the template ends in messages, the assistant's turn
            is opened behind them.
        number: of the row in its file, for messages.

    Raises:
        UserError: a value is no text, or has no word where its column has words.
    """
    given, words = given or {}, words or {}
    parts = parsed(template)
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
            continue
        if part.column in given:
            text += _filtered(given[part.column], part)
            continue
        try:
            value = row[part.column]
            if part.column in words:
                value = _word(value, words[part.column], part.column)
            text += _filled(part, value, chat, part is parts[-1])
        except UnfitValueError as error:
            where = "a row" if number is None else f"row {number}"
            raise UserError(f"rows: column {part.column!r} of {where} is {error}.") from error
    return text


def columns_of(template: str, given: tuple[str, ...] = ()) -> list[str]:
    """The columns that a template reads, each once, in order.

    Args:
        template: as of `fill`.
        given: names of places that are no columns.
    """
    names = [part.column for part in parsed(template) if isinstance(part, Place)]
    return [name for name in dict.fromkeys(names) if name not in given]


def _word(value: Any, words: Mapping[str, str], column: str) -> str:
    text = text_of(value)
    if text not in words:
        raise UnfitValueError(
            f"{text!r}, for which task.values.{column} has no word (nearest: "
            f"{nearest(text, words)}); add one"
        )
    return words[text]


def _filled(place: Place, value: Any, chat: ChatTemplate | None, last: bool) -> str:
    value = plain(value)
    if is_chat(value) and chat is not None:
        if place.filters:
            filters = "|".join(place.filters)
            raise UnfitValueError(f"a list of chat messages; leave |{filters} out")
        return chat.text(value, answers=last)
    text = joined(value) if place.filters[:1] == (JOIN,) else text_of(value)
    return _filtered(text, place)


def _filtered(text: str, place: Place) -> str:
    for name in place.filters:
        text = text if name == JOIN else FILTERS[name](text)
    return text
