"""Reads a journal: the intact part of the file, and where and why this part ends."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from zolit.errors import UserError
from zolit.files import open_to_read
from zolit.runs.journal.format import (
    CHECK_BYTES,
    HEAD_BYTES,
    HEADER_BYTES,
    FormatError,
    check_bytes,
    checksum,
    decode,
    decode_header,
    decode_start,
    record_length,
)
from zolit.runs.journal.records import Header, Record, Step


@dataclass(frozen=True)
class Fault:
    """Where the intact part of a journal ends before the file does.

    Attributes:
        offset: of the first damaged byte.
        record: number of the damaged record, from 0; None in the header.
        steps: number of the optimizer step before it, counted from 1.
        reason: what is wrong.
    """

    offset: int
    record: int | None
    steps: int
    reason: str

    def __str__(self) -> str:
        what = "the header" if self.record is None else f"record {self.record}"
        return f"{what} at byte {self.offset}, after step {self.steps}: {self.reason}"


@dataclass(frozen=True)
class Contents:
    """The intact part of a journal.

    Attributes:
        header: None if it is damaged or was never written.
        records: in order.
        offsets: of the beginning of each record, and of the end of the intact part.
        chains: checksum before each record, and after the last.
        size: bytes of the file.
        fault: where the intact part ends and why; None if all is intact.
    """

    header: Header | None
    records: list[Record]
    offsets: list[int]
    chains: list[int]
    size: int
    fault: Fault | None

    @property
    def end(self) -> int:
        """Number of steps that the weights have made at the end of the journal."""
        first = 0 if self.header is None else self.header.step
        return first + len(self.steps)

    @property
    def steps(self) -> list[Step]:
        """The optimizer steps, in order."""
        return [record for record in self.records if isinstance(record, Step)]


def read_journal(path: Path) -> Contents:
    """Read as far as the file is intact.

    Never fails because of the content: a damaged part ends the reading and is described in
    ``fault``. Never reads more bytes than the file has.

    Raises:
        UserError: if there is no such file or it cannot be opened.
    """
    try:
        descriptor = open_to_read(path)
    except OSError as error:
        raise UserError(
            f"journal: {str(path)!r} cannot be read ({error.strerror}); give the folder of a run "
            "that kept a journal"
        ) from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise UserError(f"journal: {str(path)!r} is not a file; give the folder of a run")
    with os.fdopen(descriptor, "rb") as file:
        return _read(file, status.st_size)


def _read(file: BinaryIO, size: int) -> Contents:
    records: list[Record] = []
    offsets: list[int] = []
    chains: list[int] = []

    def contents(header: Header | None, fault: Fault | None) -> Contents:
        return Contents(header, records, offsets, chains, size, fault)

    if size == 0:
        offsets.append(0)
        chains.append(0)
        return contents(None, None)
    try:
        start = _take(file, HEADER_BYTES)
        version, length = decode_start(start)
        text = _take(file, _fitting(length, file, size))
        chain = _checked(file, start + text, 0)
        header = decode_header(version, text)
    except FormatError as error:
        return contents(None, Fault(0, None, 0, str(error)))
    offsets.append(file.tell())
    chains.append(chain)
    steps = header.step
    while offsets[-1] < size:
        try:
            head = _take(file, HEAD_BYTES)
            body = _take(file, _fitting(record_length(head) - HEAD_BYTES, file, size))
            chain = _checked(file, head + body, chain)
            record = decode(head + body)
            if record.step != steps:
                raise FormatError(f"it is of step {record.step}, step {steps} is expected")
        except FormatError as error:
            return contents(header, Fault(offsets[-1], len(records), steps, str(error)))
        steps += isinstance(record, Step)
        records.append(record)
        offsets.append(file.tell())
        chains.append(chain)
    return contents(header, None)


def _take(file: BinaryIO, count: int) -> bytes:
    found = file.read(count)
    if len(found) < count:
        raise FormatError("the file ends within it")
    return found


def _fitting(count: int, file: BinaryIO, size: int) -> int:
    """``count``, if the file has as many bytes left and a checksum."""
    if count + CHECK_BYTES > size - file.tell():
        raise FormatError("the file ends within it")
    return count


def _checked(file: BinaryIO, data: bytes, chain: int) -> int:
    """The checksum after ``data``, if it equals the one in the file."""
    chain = checksum(data, chain)
    if _take(file, CHECK_BYTES) != check_bytes(chain):
        raise FormatError("its checksum is wrong")
    return chain
