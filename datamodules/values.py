"""The cells of a table as text; never as Python's ``repr`` shows them."""

import datetime
import decimal
from typing import Any

import numpy as np
import pandas as pd


class UnfitValueError(ValueError):
    """A value that has no form as text; the message says what it is and what to do."""


def plain(value: Any) -> Any:
    """A value without numpy: arrays become lists, numbers Python's own, bytes text.

    Raises:
        UnfitValueError: bytes that are no UTF-8.
    """
    if isinstance(value, np.ndarray):
        return [plain(one) for one in value]
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, np.floating):
        return float(str(value))  # 0.1 in float32 is 0.10000000149011612 otherwise
    if isinstance(value, np.bool_ | np.integer):
        return value.item()
    if isinstance(value, bytes | bytearray | memoryview):
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnfitValueError("bytes that are no UTF-8; store text in the file") from error
    return value


def plain_values(column: pd.Series) -> list[Any]:
    """A column's values, each as `plain` gives it, or the error it raised."""
    found: list[Any] = []
    for value in column.to_numpy() if column.dtype.kind == "f" else column:
        try:
            found.append(plain(value))
        except UnfitValueError as error:
            found.append(error)
    return found


def text_of(value: Any) -> str:
    """The value as a prompt shows it: text as it is, numbers and dates in their usual form,
    ``true`` and ``false``.

    Raises:
        UnfitValueError: anything else.
    """
    value = plain(value)
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | decimal.Decimal | datetime.date | datetime.time):
        return str(value)
    if isinstance(value, list):
        raise UnfitValueError("a list; |join behind the column's name joins words with blanks")
    if isinstance(value, dict):
        raise UnfitValueError("an object with fields; give each field a column of its own")
    raise UnfitValueError(f"of the kind {type(value).__name__}; store it as text")


def joined(value: Any) -> str:
    """The words of a list, with blanks between.

    Raises:
        UnfitValueError: it is no list of words.
    """
    value = plain(value)
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise UnfitValueError("no list of words; leave |join out")
    return " ".join(value)
