"""Read the text of a file, or say in a sentence why it cannot be read."""

import bz2
import codecs
import gzip
import lzma
import zlib
from pathlib import Path
from typing import Any

from zolit.errors import UserError, first_line

OPENERS: dict[str, Any] = {".bz2": bz2.open, ".gz": gzip.open, ".xz": lzma.open}
_MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def text_of_file(file: Path, encoding: str) -> str:
    """The whole text, without a byte order mark.

    Args:
        file: may be compressed, as its ending says.
        encoding: of the text, as Python names it.

    Raises:
        UserError: the file is empty or cannot be unpacked, or its encoding is unknown or another
            one.
        OSError: the file cannot be read.
    """
    opener = OPENERS.get(file.suffix, open)
    try:
        with opener(file, "rb") as stream:
            data: bytes = stream.read()
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(
            f"rows.path: {str(file)!r} cannot be unpacked ({first_line(error)}); the file is "
            "damaged or was cut: get it again"
        ) from error
    for mark, found in _MARKS.items():
        if _is_utf8(encoding) and data.startswith(mark):
            raise UserError(
                f"rows.encoding: {str(file)!r} begins with the mark of {found}, not utf-8; set "
                f"encoding: {found}."
            )
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise UserError(
            f"rows.encoding: there is no encoding {encoding!r} of text; give one such as utf-8, "
            "latin-1, cp1252 or utf-16."
        ) from error
    except UnicodeDecodeError as error:
        line = 1 + data.count(b"\n", 0, error.start)
        raise UserError(
            f"rows.encoding: {str(file)!r} cannot be read as {encoding} (byte "
            f"0x{data[error.start]:02x} in line {line}); set rows.encoding to what the file was "
            "written in, often latin-1 or cp1252."
        ) from error
    if "\0" in text:
        raise UserError(
            f"rows.encoding: {str(file)!r} read as {encoding} has NUL characters, which no text "
            "has; set rows.encoding to what the file was written in, perhaps utf-16-le."
        )
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise UserError(f"rows.path: {str(file)!r} is empty; give a file with rows")
    return text


def _is_utf8(encoding: str) -> bool:
    return encoding.lower().replace("_", "-") in ("utf-8", "utf8")
