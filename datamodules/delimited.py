"""CSV and TSV: each value is read as text, unchanged, and no row is lost to a stray quote."""

import csv
import io
import re
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from zolit.errors import UserError, first_line, tell

_BREAK = re.compile(r"\r\n|\r|\n")
_MOST_HEADER = 65536
_CHANCE = 50


def read_delimited(
    text: str, separator: str, names: list[str] | None, quotes: bool | None, file: str
) -> pd.DataFrame:
    """The table of a file, its values as text.

    Args:
        text: of the file.
        separator: of fields.
        names: of columns, where the file has no header line.
        quotes: whether double quotes group a field; None: found out from the file.
        file: its name, for messages.

    Raises:
        UserError: quotes that do not pair, or that can be read in two ways; a header line beside
            ``names``; a row with more fields than there are columns.
    """
    if '"' in text and quotes is not False:
        quotes = _groups(text, separator, quotes, file)
    _check_header(text, separator, names, bool(quotes), file)
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
    try:
        return _table(text, separator, names, quoting)
    except (pd.errors.ParserError, pd.errors.ParserWarning) as error:
        raise UserError(
            f"rows.path: {_too_long(text, separator, names, quoting, file) or first_line(error)}; "
            "put a field that holds the separator in double quotes, or check rows.format and "
            "rows.quotes"
        ) from error


def _table(text: str, separator: str, names: list[str] | None, quoting: Literal[0, 3]) -> Any:
    with warnings.catch_warnings():
        # Of rows with more fields than the header pandas would drop the surplus, or, without
        # index_col, shift every column. The file means neither.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            io.StringIO(text),
            sep=separator,
            header="infer" if names is None else None,
            names=names,
            index_col=False,
            quoting=quoting,
            # 00042, 1.50 and TRUE stay as the row has them, instead of 42, 1.5 and True.
            dtype=str,
            # A review that says "None" or "NA" is text, not a missing value.
            keep_default_na=False,
        )


def _too_long(
    text: str, separator: str, names: list[str] | None, quoting: Literal[0, 3], file: str
) -> str | None:
    """A clause about the first row with more fields than there are columns."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)
    columns = len(names or next(reader, []))
    for row in reader:
        if len(row) > columns:
            return f"line {reader.line_num} of {file!r} has {len(row)} fields for {columns} columns"
    return None


@dataclass(frozen=True)
class _Quoted:
    """How a file reads where double quotes group a field.

    Attributes:
        stray: first line in which a field begins with a quote and does not end with one; None
            where every quote pairs.
        spanning: first and last line of each row of several lines.
        doubtful: rows of several lines whose lines could be rows of their own.
    """

    stray: int | None
    spanning: list[tuple[int, int]]
    doubtful: list[tuple[int, int]]


def _groups(text: str, separator: str, quotes: bool | None, file: str) -> bool:
    """Whether double quotes group fields in this file."""
    read = _quoted(text, separator)
    if read.stray is not None:
        fault = (
            f"line {read.stray} of {file!r} has a field that begins with a double quote and does "
            "not end with one"
        )
        # Quotes are a habit of CSV, not of TSV.
        if quotes is None and separator == "\t" and _even(text, separator):
            tell(f"rows: {fault}; the file is read with quotes as text (quotes: false)")
            return False
        last = len(_lines(text.rstrip("\r\n")))
        cut = ", or complete this last line if the file was cut" if read.stray == last else ""
        raise UserError(
            f"rows.quotes: {fault}; double the quotes within a quoted field, set quotes: false if "
            f"they are text like any other{cut}."
        )
    if not read.spanning:
        return True
    doubtful = read.doubtful or read.spanning
    first, last = doubtful[0]
    found = (
        f"double quotes make {len(doubtful)} row(s) of {file!r} span several lines, the first one "
        f"lines {first} to {last}"
    )
    if quotes is None and _even(text, separator):
        raise UserError(
            f"rows.quotes: {found}, but each line has all fields as well; set quotes: false if "
            "quotes are text like any other, true if they group a field."
        )
    # Of many texts of several lines a few look like rows by chance.
    if len(read.doubtful) * _CHANCE > len(read.spanning):
        tell(f"rows: {found}, which look like rows themselves; if they are, set quotes: false")
    return True


def _quoted(text: str, separator: str) -> _Quoted:
    record = _record(separator)
    spanning: list[tuple[int, int]] = []
    doubtful: list[tuple[int, int]] = []
    # Between fields as the header has them.
    separators = len(_lines(text[:_MOST_HEADER])[0].split(separator)) - 1
    position, line = 0, 1
    while position < len(text):
        match = record.match(text, position)
        if match is None:
            return _Quoted(line, spanning, doubtful)
        lines = _lines(match[1])
        if len(lines) > 1:
            spanning.append((line, line + len(lines) - 1))
            # Rows that a stray quote swallows hold no quotes: they would end its field.
            if all(one.count(separator) == separators > 0 for one in lines):
                doubtful.append(spanning[-1])
        line += len(lines)
        position = match.end()
    return _Quoted(None, spanning, doubtful)


def _record(separator: str) -> re.Pattern[str]:
    field = rf'(?:"(?:[^"]|"")*+"(?=[{separator}\r\n]|\Z)|(?!")[^{separator}\r\n]*+)'
    return re.compile(rf"({field}(?:{separator}{field})*+)(?:\r\n|\r|\n|\Z)")


def _lines(text: str) -> list[str]:
    return _BREAK.split(text)


def _even(text: str, separator: str) -> bool:
    """Whether every line has equally many fields when quotes group nothing."""
    counts = {line.count(separator) for line in _lines(text) if line}
    return len(counts) == 1 and counts != {0}


def _check_header(
    text: str, separator: str, names: list[str] | None, quotes: bool, file: str
) -> None:
    match = _record(separator).match(text) if quotes else re.match(r"[^\r\n]*", text)
    line = match[0] if match else ""
    first = next(csv.reader([line], delimiter=separator), []) if quotes else line.split(separator)
    if names is not None and first == names:
        raise UserError(
            f"rows.names: {file!r} has these names in a header line of its own; leave names out."
        )
    twice = [name for name, uses in Counter(first).items() if uses > 1 and name]
    if names is None and twice:
        tell(
            f"rows: {file!r} has {len(twice)} column name(s) more than once; the second "
            f"{twice[0]!r} is read as {f'{twice[0]}.1'!r}"
        )
