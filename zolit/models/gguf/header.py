"""The metadata of a GGUF file and the places of its tensors, with a check of every count.

The `gguf` package trusts the counts in a file: with one flipped bit it would walk over 2^60 entries
that are not there. Here each count is compared with the bytes that are left in the file.
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FORMATS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
"""How to unpack a value of each type of the format; 8 is a string, 9 an array."""
_FLOAT32, _STRING, _ARRAY = 6, 8, 9
_MAX_DIMENSIONS = 8
_MAX_DEPTH = 4
_MAX_NUMBERS = 4096
"""Longer arrays belong to the vocabulary and are skipped."""
_ALIGNMENT = 32
_F32 = 0


@dataclass(frozen=True)
class Place:
    """A tensor's entry in the table.

    Attributes:
        shape: of its values, the last dimension running fastest.
        kind: number of its block format.
        offset: bytes from the start of the file.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class Header:
    """The part of a file before its weights.

    Attributes:
        path: of the file.
        fields: the metadata by name. A 32-bit float is given as the shortest decimal number that
            rounds to it; an array of strings, or a long one of numbers, as its length.
        tensors: by name.
    """

    path: Path
    fields: dict[str, Any]
    tensors: dict[str, Place]

    def floats(self, name: str) -> list[float]:
        """The values of a small tensor of 32-bit floats.

        Raises:
            ValueError: if it is stored in another way, or the file ends before it does.
        """
        place = self.tensors[name]
        if place.kind != _F32:
            raise ValueError(f"its tensor {name!r} is not made of 32-bit floats")
        count = prod(place.shape)
        if place.offset + 4 * count > self.path.stat().st_size:
            raise ValueError(f"it ends before tensor {name!r} does")
        found = np.fromfile(self.path, dtype="<f4", count=count, offset=place.offset)
        return [shortest(value) for value in found]


def shortest(value: Any) -> float:
    """The shortest decimal number that rounds to this 32-bit float."""
    return float(str(np.float32(value)))


def read_header(path: Path) -> Header:
    """Walk over names, metadata and tensors of a file.

    Files must be little-endian. Others are recognized by their version number and refused.

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
        if version not in _VERSIONS:
            raise ValueError(f"it is of version {version} of the format, expected 2 or 3")
        # The smallest entry: the length of a name and a type; a tensor also has a dimension and an
        # offset.
        if fields * 13 + tensors * 24 > size:
            raise ValueError("its counts lead beyond its end")
        found: dict[str, Any] = {}
        for _ in range(fields):
            name = _string(file, size)
            (kind,) = struct.unpack("<I", _take(file, 4, size))
            found[name] = _value(file, size, kind, 0)
        entries: list[tuple[str, tuple[int, ...], int, int]] = []
        for _ in range(tensors):
            name = _string(file, size)
            (dimensions,) = struct.unpack("<I", _take(file, 4, size))
            if dimensions > _MAX_DIMENSIONS:
                raise ValueError(f"a tensor of it has {dimensions} dimensions")
            sizes = struct.unpack(f"<{dimensions}Q", _take(file, 8 * dimensions, size))
            kind, offset = struct.unpack("<IQ", _take(file, 12, size))
            entries.append((name, sizes[::-1], kind, offset))
        alignment = found.get("general.alignment", _ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            raise ValueError(f"its alignment is {alignment!r}")
        start = -(-file.tell() // alignment) * alignment
    places = {name: Place(shape, kind, start + offset) for name, shape, kind, offset in entries}
    if len(found) < fields or len(places) < tensors:
        raise ValueError("it holds two fields or two tensors of one name")
    return Header(path, found, places)


def _take(file: BinaryIO, count: int, size: int) -> bytes:
    if count > size - file.tell():
        raise ValueError("a length in it leads beyond its end")
    return file.read(count)


def _pass(file: BinaryIO, count: int, size: int) -> None:
    if count > size - file.tell():
        raise ValueError("a length in it leads beyond its end")
    file.seek(count, 1)


def _string(file: BinaryIO, size: int) -> str:
    (length,) = struct.unpack("<Q", _take(file, 8, size))
    return _take(file, length, size).decode("utf-8", errors="replace")


def _pass_string(file: BinaryIO, size: int) -> None:
    (length,) = struct.unpack("<Q", _take(file, 8, size))
    _pass(file, length, size)


def _value(file: BinaryIO, size: int, kind: int, depth: int) -> Any:
    if kind == _STRING:
        return _string(file, size)
    if kind in _FORMATS:
        (value,) = struct.unpack(_FORMATS[kind], _take(file, struct.calcsize(_FORMATS[kind]), size))
        return shortest(value) if kind == _FLOAT32 else value
    if kind != _ARRAY or depth >= _MAX_DEPTH:
        raise ValueError(f"it holds a value of the unknown type {kind}")
    inner, count = struct.unpack("<IQ", _take(file, 12, size))
    if inner in _FORMATS:
        width = struct.calcsize(_FORMATS[inner])
        if count > _MAX_NUMBERS:
            _pass(file, count * width, size)
            return count
        whole = struct.unpack(f"<{count}{_FORMATS[inner][1]}", _take(file, count * width, size))
        return [shortest(one) if inner == _FLOAT32 else one for one in whole]
    if count * 8 > size:  # each has a length at least
        raise ValueError("a length in it leads beyond its end")
    for _ in range(count):
        if inner == _STRING:
            _pass_string(file, size)
        else:
            _value(file, size, inner, depth + 1)
    return count
