"""A small journal, and its bytes written by struct alone."""

import json
import struct
import zlib
from pathlib import Path

from zolit.runs.journal import Header, JournalWriter, Position, Session, Step, Weights
from zolit.runs.journal.records import Record

HEADER = Header(
    "model: ä\n",
    {"a.codes": "00ff"},
    "11",
    {"frozen": "22"},
    {"seed": 0},
    {"n": 1},
    parts={"model.quantizer": 1},
)


def step(number: int, queries: int = 1) -> Step:
    """A step with every field set."""
    return Step(
        number,
        (1e-3 / (number + 1),),
        tuple((number << 40) + query for query in range(queries)),
        tuple(0.5 * query - number for query in range(queries)),
        2**64 - 1 - number,
        Position(number // 4, number % 4 + 1, number + 1, number % 4 == 3),
        number,
        number % 2,
    )


RECORDS: list[Record] = [
    step(0),
    step(1, 3),
    step(2, 0),
    Weights(3, bytes(range(16))),
    Session(3, {"torch": "9"}),
    step(3),
    Weights(4, bytes(16), final=True),
]


def write(path: Path, records: list[Record] = RECORDS) -> Path:
    writer = JournalWriter(path)
    writer.begin(HEADER)
    for record in records:
        writer.append(record)
    writer.close()
    return path


def by_struct() -> bytes:
    """The same file, from the table in docs/dev/journal.md."""
    facts = {name: one for name, one in vars(HEADER).items() if name != "version"}
    text = json.dumps(facts, sort_keys=True).encode()
    parts = [b"\x89ZOJ\r\n\x1a\n" + struct.pack("<HHI", 2, 0, len(text)) + text]
    for one in RECORDS:
        if isinstance(one, Step):
            place = one.position
            part = struct.pack("<BBHHH", 1, place.last, len(one.keys), 1, one.skipped_in_row)
            part += struct.pack("<IIII", place.epoch, place.batch, place.batches, one.skipped)
            part += struct.pack("<QQd", one.step, one.rounding_key, one.rates[0])
            part += b"".join(struct.pack("<Q", key) for key in one.keys)
            part += b"".join(struct.pack("<f", value) for value in one.values)
        elif isinstance(one, Weights):
            part = struct.pack("<BBHIQ", 2, one.final, 16, 0, one.step) + one.digest
        else:
            facts = json.dumps(one.facts).encode()
            part = struct.pack("<BBHIQ", 3, 0, len(facts), 0, one.step) + facts
        parts.append(part)
    file, plain = b"", b""
    for part in parts:
        plain += part
        file += part + struct.pack("<I", zlib.crc32(plain))
    return file
