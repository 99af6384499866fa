"""Bytes of a journal: a header, then records; little-endian, described in docs/dev/journal.md.

Each part ends with a CRC-32 of everything from the start of the file except earlier checksums. It
detects a part that is damaged, missing or in another place.
"""

import json
import math
import struct
import zlib
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from zolit.digests import DIGEST_BYTES

MAGIC = b"\x89ZOJ\r\n\x1a\n"
"""As PNG's first bytes: a transfer that treats the file as text changes them."""

VERSION = 2
"""Of the journals that are written. Version 1 has the same bytes, but some of its runs made their
first step in another way (`zolit.runs.journal.earlier`)."""

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


@dataclass(frozen=True)
class Position:
    """How far a run has come in its data.

    Attributes:
        epoch: number of the epoch, from 0.
        batch: batches of the epoch that were taken.
        batches: batches taken since the run began.
        last: whether the batch was the last of its epoch.
    """

    epoch: int = 0
    batch: int = 0
    batches: int = 0
    last: bool = False


@dataclass(frozen=True)
class Step:
    """An optimizer step.

    Attributes:
        step: its number, from 0.
        rates: learning rate of each parameter group.
        keys: 64-bit key of each direction.
        values: projected gradient along each, float32, before the estimator changes it
            (`Estimator.finish`): a replay calls this method again.
        rounding_key: 64-bit key of the update's stochastic rounding.
        position: in the data after the step.
        skipped: queries whose loss was not finite, since the run began.
        skipped_in_row: of them, how many just before the next query.
    """

    step: int
    rates: tuple[float, ...]
    keys: tuple[int, ...]
    values: tuple[float, ...]
    rounding_key: int
    position: Position = field(default_factory=Position)
    skipped: int = 0
    skipped_in_row: int = 0
    kind: ClassVar[int] = 1


@dataclass(frozen=True)
class Weights:
    """A digest of the tuned weights after a number of steps.

    Attributes:
        step: steps that were made.
        digest: `zolit.digests.combined_digest` of the weights.
        final: whether the run ended here.
    """

    step: int
    digest: bytes
    final: bool = False
    kind: ClassVar[int] = 2


@dataclass(frozen=True)
class Session:
    """A process resumed the run.

    Attributes:
        step: steps that were made before.
        facts: the environment of the process (library versions, device, threads), and the options
            that were changed.
    """

    step: int
    facts: dict[str, Any]
    kind: ClassVar[int] = 3


Record = Step | Weights | Session


@dataclass(frozen=True)
class Header:
    """The start of a run.

    Attributes:
        config: the configuration as YAML; empty if there was none.
        weights: hex digest of each tensor that the run moves or starts from, by name.
        whole: hex digest over all of them.
        fingerprint: of the model (`zolit.checkpoints.tensors.fingerprint`).
        data: facts that determine the order of the rows; empty if they are not known.
        environment: library versions, device, threads.
        step: number of steps that the start weights had made; 0 unless they are from a checkpoint.
        checkpoint: path of the checkpoint that the run started from; empty for none.
        version: of the format. It stands before the JSON of the other fields.
        parts: what its parts record beside their options (`zolit.runs.parts.recorded_parts`): hex
            digests of files that they read, versions of what they compute. Left out where it is
            empty, as in journals of before there was any.
    """

    config: str
    weights: dict[str, str]
    whole: str
    fingerprint: dict[str, Any]
    data: dict[str, Any]
    environment: dict[str, Any]
    step: int = 0
    checkpoint: str = ""
    version: int = VERSION
    parts: dict[str, Any] = field(default_factory=dict)


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
