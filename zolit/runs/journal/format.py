"""Bytes of a journal: a header, then records; little-endian, described in docs/dev/journal.md.

Each part ends with a CRC-32 of everything from the start of the file except earlier checksums. It
detects a part that is damaged, missing or in another place.
"""

import json
import math
import struct
import zlib
from dataclasses import asdict, fields
from typing import Any

from zolit.digests import DIGEST_BYTES
from zolit.runs.journal.records import (
    VERSION,
    Header,
    Position,
    Record,
    Session,
    Step,
    Weights,
)

MAGIC = b"\x89ZOJ\r\n\x1a\n"
"""As PNG's first bytes: a transfer that treats the file as text changes them."""

_READ = (1, VERSION)

_HEADER = struct.Struct("<8sHHI")  # magic, version, 0, bytes of JSON
_STEP = struct.Struct("<BBHHHIIIIQQ")
_OTHER = struct.Struct("<BBHIQ")  # kind, flags, bytes that follow, 0, step
_HEAD = struct.Struct("<BBHH")  # the fields that determine the length of a record
_CHECK = struct.Struct("<I")

HEAD_BYTES = _HEAD.size
HEADER_BYTES = _HEADER.size
CHECK_BYTES = _CHECK.size
MAX_HEADER = 1 << 24
MAX_COUNT = (1 << 16) - 1

_LAST_BATCH = 1
_FINAL = 1


class FormatError(ValueError):
    """Bytes that are not a record; the message says why."""


def checksum(data: bytes, chain: int = 0) -> int:
    """CRC-32 of the bytes before (``chain``) and of ``data``."""
    return zlib.crc32(data, chain)


def check_bytes(chain: int) -> bytes:
    """The bytes of a checksum in the file."""
    return _CHECK.pack(chain)


def encode_header(header: Header) -> bytes:
    """The header without its checksum.

    Raises:
        ValueError: if it is longer than 16 MiB.
    """
    facts = asdict(header)
    version = facts.pop("version")
    if not header.parts:
        del facts["parts"]
    text = json.dumps(facts, sort_keys=True).encode()
    if len(text) > MAX_HEADER:
        raise ValueError(f"the header has {len(text)} bytes, at most {MAX_HEADER} are expected")
    return _HEADER.pack(MAGIC, version, 0, len(text)) + text


def decode_start(start: bytes) -> tuple[int, int]:
    """The version of a journal, and the number of bytes of JSON that follow its first bytes.

    Args:
        start: the first `HEADER_BYTES` of the file.

    Raises:
        FormatError: if a journal of a version that is read here does not begin so.
    """
    magic, version, zero, length = _HEADER.unpack(start)
    if magic != MAGIC:
        raise FormatError("the file does not begin as a journal does")
    if version not in _READ:
        raise FormatError(
            f"format version {version}, this zolit reads versions {_READ[0]} to {_READ[-1]}"
        )
    if zero or length > MAX_HEADER:
        raise FormatError("the length of the header is out of range")
    return int(version), int(length)


def decode_header(version: int, text: bytes) -> Header:
    """The header from its version and its JSON.

    Raises:
        FormatError: if it is not JSON of the right shape.
    """
    found = {"parts": {}, **_json(text)}
    types = {one.name: one.type for one in fields(Header) if one.name != "version"}
    if set(found) != set(types):
        raise FormatError("the header lacks a field or has another one")
    for name, kind in types.items():
        if type(found[name]) is not (kind if isinstance(kind, type) else dict):
            raise FormatError(f"the header's field {name} has another type")
    if found["step"] < 0:
        raise FormatError("the header's field step is negative")
    if not all(isinstance(one, str) for one in found["weights"].values()):
        raise FormatError("the header's field weights has another type")
    return Header(**found, version=version)


def encode(record: Record) -> bytes:
    """A record without its checksum.

    Raises:
        ValueError: if it has more queries or facts than a record can hold.
    """
    if isinstance(record, Step):
        return _encode_step(record)
    if isinstance(record, Weights):
        body, flags = record.digest, _FINAL * record.final
    else:
        body = json.dumps(record.facts, sort_keys=True).encode()
        flags = 0
    if len(body) > MAX_COUNT:
        raise ValueError(f"a record holds {MAX_COUNT} bytes, got {len(body)}")
    return _OTHER.pack(record.kind, flags, len(body), 0, record.step) + body


def _encode_step(record: Step) -> bytes:
    count, groups, place = len(record.keys), len(record.rates), record.position
    if count != len(record.values) or max(count, groups) > MAX_COUNT:
        raise ValueError(f"a record holds {MAX_COUNT} queries with a value each, got {count}")
    start = _STEP.pack(
        Step.kind,
        _LAST_BATCH * place.last,
        count,
        groups,
        min(record.skipped_in_row, MAX_COUNT),
        place.epoch,
        place.batch,
        place.batches,
        record.skipped,
        record.step,
        record.rounding_key,
    )
    body = struct.pack(f"<{groups}d{count}Q", *record.rates, *record.keys)
    return start + body + struct.pack(f"<{count}f", *record.values)


def record_length(head: bytes) -> int:
    """Bytes of a record, its checksum left out, from its first `HEAD_BYTES`; under 2 MiB.

    Raises:
        FormatError: if there is no such kind of record.
    """
    kind, _, count, groups = _HEAD.unpack(head)
    if kind == Step.kind:
        return _STEP.size + 8 * int(groups) + 12 * int(count)
    if kind in (Weights.kind, Session.kind):
        return _OTHER.size + int(count)
    raise FormatError(f"there is no record of kind {kind}")


def decode(data: bytes) -> Record:
    """A record from its bytes, as many as `record_length` says.

    Raises:
        FormatError: if no run writes such bytes.
    """
    if data[0] == Step.kind:
        return _decode_step(data)
    kind, flags, _, zero, step = _OTHER.unpack_from(data)
    body = data[_OTHER.size :]
    if zero or flags & ~_FINAL or (flags and kind == Session.kind):
        raise FormatError("unknown flags")
    if kind == Session.kind:
        return Session(step, _json(body))
    if len(body) != DIGEST_BYTES:
        raise FormatError(f"a digest of {len(body)} bytes, {DIGEST_BYTES} are expected")
    return Weights(step, body, bool(flags & _FINAL))


def _decode_step(data: bytes) -> Step:
    _, flags, count, groups, in_row, epoch, batch, batches, skipped, step, rounding = (
        _STEP.unpack_from(data)
    )
    if flags & ~_LAST_BATCH:
        raise FormatError("unknown flags")
    numbers = struct.unpack_from(f"<{groups}d{count}Q{count}f", data, _STEP.size)
    rates, keys = numbers[:groups], numbers[groups : groups + count]
    values = numbers[groups + count :]
    if not all(map(math.isfinite, rates + values)):
        raise FormatError("a learning rate or a value is not finite")
    place = Position(epoch, batch, batches, bool(flags & _LAST_BATCH))
    return Step(step, rates, keys, values, rounding, place, skipped, in_row)


def _json(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FormatError("it is not JSON") from error
    if not isinstance(found, dict):
        raise FormatError("it is not a JSON object")
    return found
