"""The table of a GGUF file, measured before it is read.

The `gguf` package believes the counts in a file: one flipped bit, and it goes through 2^60 entries
that are not there. Here each count is compared with the bytes that are left.
"""

import struct
from pathlib import Path
from typing import BinaryIO

_MAGIC = b"GGUF"
# Bytes of a value by its type in the file; 8 is a string, 9 an array.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9
_MAX_DIMENSIONS = 8
_MAX_DEPTH = 4


def check_header(path: Path) -> None:
    """Walk over names, metadata and tensors of a file without keeping any.

    Only little-endian files are walked; the `gguf` package swaps the bytes of others, and their
    version number shows which they are.

    Raises:
        ValueError: if a count or a length leads beyond the end of the file.
        OSError: if the file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        magic, version, tensors, fields = struct.unpack("<4sIQQ", _take(file, 24, size))
        if magic != _MAGIC:
            raise ValueError("it does not begin as a GGUF file does")
        if version & 0xFFFF == 0:
            raise ValueError("it is of a machine that counts bytes the other way round")
        # The least that an entry takes: a name's length and a type; and a dimension, an offset.
        if fields * 13 + tensors * 24 > size:
            raise ValueError("its counts lead beyond its end")
        for _ in range(fields):
            _pass_string(file, size)
            (kind,) = struct.unpack("<I", _take(file, 4, size))
            _pass_value(file, size, kind, 0)
        for _ in range(tensors):
            _pass_string(file, size)
            (dimensions,) = struct.unpack("<I", _take(file, 4, size))
            if dimensions > _MAX_DIMENSIONS:
                raise ValueError(f"a tensor of it has {dimensions} dimensions")
            _take(file, 8 * dimensions + 12, size)


def _take(file: BinaryIO, count: int, size: int) -> bytes:
    if count > size - file.tell():
        raise ValueError("a length in it leads beyond its end")
    return file.read(count)


def _pass(file: BinaryIO, count: int, size: int) -> None:
    if count > size - file.tell():
        raise ValueError("a length in it leads beyond its end")
    file.seek(count, 1)


def _pass_string(file: BinaryIO, size: int) -> None:
    (length,) = struct.unpack("<Q", _take(file, 8, size))
    _pass(file, length, size)


def _pass_value(file: BinaryIO, size: int, kind: int, depth: int) -> None:
    if kind == _STRING:
        _pass_string(file, size)
    elif kind in _SIZES:
        _pass(file, _SIZES[kind], size)
    elif kind == _ARRAY and depth < _MAX_DEPTH:
        inner, count = struct.unpack("<IQ", _take(file, 12, size))
        if inner in _SIZES:
            _pass(file, count * _SIZES[inner], size)
            return
        if count * 8 > size:  # each has a length at least
            raise ValueError("a length in it leads beyond its end")
        for _ in range(count):
            _pass_value(file, size, inner, depth + 1)
    else:
        raise ValueError(f"it holds a value of the unknown type {kind}")
