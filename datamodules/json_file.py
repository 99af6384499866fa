"""JSON and JSON lines: one row for each object, or a sentence about the place that is none."""

import io
import json
from collections import Counter
from typing import Any

import pandas as pd

from zolit.errors import UserError

_CUT = "the file may have been cut"


def read_json(text: str, file: str) -> pd.DataFrame:
    """The table of a list of objects, or of an object of them.

    Args:
        text: of the file.
        file: its name, for messages.

    Raises:
        UserError: it is no JSON, or a row is no object.
    """
    try:
        content = json.loads(text, parse_float=str)  # as text: 1.50 would become 1.5
    except json.JSONDecodeError as error:
        where = f"{error.msg} in line {error.lineno}, column {error.colno}"
        if text.rstrip()[-1:] not in ("]", "}"):
            raise UserError(
                f"rows.path: {file!r} ends in the middle of its JSON ({where}); {_CUT}: get it "
                "again"
            ) from error
        raise UserError(
            f"rows.path: {file!r} is no JSON ({where}); mend it there, or check rows.format: jsonl "
            "has an object on each line"
        ) from error
    rows = list(content.values()) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        rows = [rows]
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise UserError(
                f"rows.path: row {number} of {file!r} is {_kind(row)}, expected an object with "
                "named fields; mend it, or check rows.format"
            )
    return flat_table(rows)


def read_json_lines(text: str, file: str) -> pd.DataFrame:
    """The table of a file with an object on each line; blank lines count for nothing.

    Args:
        text: of the file.
        file: its name, for messages.

    Raises:
        UserError: a line is no object.
    """
    # Not splitlines: a text may hold line separators of Unicode.
    lines = enumerate(io.StringIO(text, newline=None), 1)
    numbered = [(number, line) for number, line in lines if line.strip()]
    rows: list[dict[str, Any]] = []
    for number, line in numbered:
        try:
            row = json.loads(line, parse_float=str)
        except json.JSONDecodeError as error:
            where = f"{error.msg} at column {error.colno}"
            if rows and number == numbered[-1][0]:
                raise UserError(
                    f"rows.path: the last line of {file!r}, line {number}, is no whole JSON object "
                    f"({where}); {_CUT}: complete the line, delete it, or get the file again"
                ) from error
            raise UserError(
                f"rows.path: line {number} of {file!r} is no JSON object ({where}); mend it, or "
                "check rows.format and rows.encoding"
            ) from error
        if not isinstance(row, dict):
            raise UserError(
                f"rows.path: line {number} of {file!r} is {_kind(row)}, expected an object with "
                "named fields; mend it, or check rows.format"
            )
        rows.append(row)
    return flat_table(rows)


def flat_table(records: list[dict[str, Any]]) -> pd.DataFrame:
    """A table with nested objects as columns of their own.

    A column is named by its innermost key, by the dotted path where two share it.

    Example:
        >>> flat_table([{"text": "a", "more": {"label": 1}}]).columns.tolist()
        ['text', 'label']
    """
    table = pd.json_normalize(records)
    inner = {column: column.rsplit(".", 1)[-1] for column in table.columns}
    uses = Counter(inner.values())
    return table.rename(columns={long: short for long, short in inner.items() if uses[short] == 1})


def _kind(row: Any) -> str:
    named = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return named.get(type(row), "a number")
