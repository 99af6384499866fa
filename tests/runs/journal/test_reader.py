"""The reader against damage: it ends at the first damaged byte's record and says so."""

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from journal_cases import HEADER, RECORDS, by_struct, step, write

from zolit.errors import UserError
from zolit.runs.journal import Contents, Step, read_journal
from zolit.runs.journal.format import encode, encode_header
from zolit.runs.journal.records import Record

WHOLE = by_struct()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal")


def read(folder: Path, data: bytes) -> Contents:
    path = folder / "journal.bin"
    path.write_bytes(data)
    return read_journal(path)


def ends() -> Iterator[int]:
    """Where the header and each record end, counted from the encoders."""
    place = len(encode_header(HEADER)) + 4
    yield place
    for record in RECORDS:
        place += len(encode(record)) + 4
        yield place


ENDS = list(ends())


def test_the_file_is_as_documented(folder: Path) -> None:
    assert write(folder / "written.bin").read_bytes() == WHOLE
    assert ENDS[-1] == len(WHOLE)


def test_round_trip(folder: Path) -> None:
    found = read(folder, WHOLE)
    assert found.header == HEADER
    assert found.records == RECORDS
    assert found.fault is None
    assert found.offsets == ENDS
    assert [one.step for one in found.steps] == [0, 1, 2, 3]


def test_a_step_costs_at_most_64_bytes_a_query() -> None:
    assert len(encode(step(5))) + 4 <= 64
    assert len(encode(step(5, 16))) + 4 <= 16 * 64


def test_cut_at_every_byte(folder: Path) -> None:
    for size in range(len(WHOLE)):
        found = read(folder, WHOLE[:size])
        intact = sum(end <= size for end in ENDS) - 1
        if intact < 0:
            assert found.header is None
            assert found.records == []
            assert (found.fault is None) == (size == 0)
            continue
        assert found.header == HEADER
        assert found.records == RECORDS[:intact]
        assert found.offsets[-1] == ENDS[intact]
        if size == ENDS[intact]:
            assert found.fault is None
        else:
            assert found.fault is not None
            assert (found.fault.offset, found.fault.record) == (ENDS[intact], intact)
            assert "file ends within it" in str(found.fault)


def test_any_bit_flipped(folder: Path) -> None:
    for place in range(len(WHOLE)):
        for bit in range(8):
            data = bytearray(WHOLE)
            data[place] ^= 1 << bit
            found = read(folder, bytes(data))
            intact = sum(end <= place for end in ENDS) - 1
            assert found.fault is not None
            assert found.fault.offset == (ENDS[intact] if intact >= 0 else 0)
            assert found.records == RECORDS[: max(intact, 0)]


def pieces() -> list[bytes]:
    return [WHOLE[a:b] for a, b in zip([0, *ENDS], ENDS, strict=False)]


@pytest.mark.parametrize("gone", range(1, len(RECORDS)))
def test_a_missing_or_swapped_record_is_found(gone: int, folder: Path) -> None:
    parts = pieces()
    without = read(folder, b"".join(parts[:gone] + parts[gone + 1 :]))
    assert without.records == RECORDS[: gone - 1]
    assert without.fault is not None
    swapped = [*parts[:gone], parts[gone + 1], parts[gone], *parts[gone + 2 :]]
    assert read(folder, b"".join(swapped)).records == RECORDS[: gone - 1]


def test_records_of_another_header_are_not_taken(folder: Path) -> None:
    other = write(folder / "other.bin", [step(0)])
    data = bytearray(other.read_bytes())
    data[30] ^= 1
    assert read(folder, bytes(data)).header is None
    assert read(folder, WHOLE[: ENDS[0]] + WHOLE[ENDS[1] :]).records == []


def resealed(parts: list[bytes]) -> bytes:
    file, chain = b"", 0
    for part in parts:
        chain = zlib.crc32(part, chain)
        file += part + struct.pack("<I", chain)
    return file


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (encode(step(1)), "step 1, step 0 is expected"),
        (b"\x09" + bytes(50), "no record of kind 9"),
        (encode(step(0))[:1] + b"\x02" + encode(step(0))[2:], "unknown flags"),
        (encode(step(0))[:-4] + struct.pack("<f", float("nan")), "not finite"),
        (struct.pack("<BBHIQ", 2, 0, 3, 0, 0) + b"abc", "digest of 3 bytes"),
        (struct.pack("<BBHIQ", 3, 0, 2, 0, 0) + b"[]", "not a JSON object"),
        (struct.pack("<BBHIQ", 3, 0, 60000, 0, 0) + b"[" * 60000, "not JSON"),
        (struct.pack("<BBHHH", 1, 0, 65535, 65535, 0) + bytes(40), "file ends within it"),
    ],
)
def test_crafted_records(record: bytes, reason: str, folder: Path) -> None:
    found = read(folder, resealed([encode_header(HEADER), record]))
    assert found.header == HEADER
    assert found.records == []
    assert reason in str(found.fault)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"\x89ZOJ\r\n\x1a\n" + struct.pack("<HHI", 1, 0, 2**32 - 1), "length of the header"),
        (b"\x89ZOJ\r\n\x1a\n" + struct.pack("<HHI", 1, 0, 1 << 24), "file ends within it"),
        (b"\x89ZOJ\r\n\x1a\n" + struct.pack("<HHI", 3, 0, 2) + b"{}", "format version 3"),
        (b"\x89ZOJ\r\n\x1a\n" + struct.pack("<HHI", 1, 0, 2) + b"{}", "lacks a field"),
        (b"PK\x03\x04" + bytes(90), "does not begin as a journal"),
    ],
)
def test_crafted_headers(header: bytes, reason: str, folder: Path) -> None:
    found = read(folder, resealed([header]))
    assert found.header is None
    assert reason in str(found.fault)


@settings(max_examples=300)
@given(data=st.binary(max_size=400), keep=st.integers(0, len(WHOLE)))
@example(data=b"", keep=0)
def test_any_bytes_after_an_intact_part(data: bytes, keep: int, folder: Path) -> None:
    found = read(folder, WHOLE[:keep] + data)
    intact = sum(end <= keep for end in ENDS) - 1
    assert found.records[: max(intact, 0)] == RECORDS[: max(intact, 0)]
    if found.fault is not None:
        assert 0 <= found.fault.offset <= keep + len(data)


@settings(max_examples=200)
@given(
    places=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), min_size=1),
)
def test_bytes_overwritten(places: list[tuple[int, int]], folder: Path) -> None:
    data = bytearray(WHOLE)
    for place, value in places:
        data[place] = value
    first = min((p for p in range(len(WHOLE)) if data[p] != WHOLE[p]), default=None)
    found = read(folder, bytes(data))
    if first is None:
        assert found.fault is None
    else:
        intact = sum(end <= first for end in ENDS) - 1
        assert found.records == RECORDS[: max(intact, 0)]


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(UserError, match="journal: "):
            read_journal(path)


def test_records_are_compared_by_value() -> None:
    records: list[Record] = [step(3), step(3)]
    assert records[0] == records[1]
    assert isinstance(records[0], Step)
