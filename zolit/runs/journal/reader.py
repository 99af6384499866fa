"""Read a journal: the intact part of the file, and where and why it ends."""

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
    Header,
    Record,
    Step,
    check_bytes,
    checksum,
    decode,
    decode_header,
    header_length,
    record_length,
)


@dataclass(frozen=True)
class Fault:
    """Where the intact part of a journal ends before the file does.

    Attributes:
        offset: the first byte of what is damaged.
        record: its number among the records, from 0; None in the header.
        steps: number of the optimizer step before it, counted from 1.
        reason: why it is not believed.
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
    """What could be read of a journal.

    Attributes:
        header: None if it is damaged or was never written.
        records: in order.
        offsets: where each record begins; one more, where the intact part ends.
        chains: checksum before each record; one more, after the last.
        size: bytes of the file.
        fault: what stopped the reader; None if all is intact.
    """

    header: Header | None
    records: list[Record]
    offsets: list[int]
    chains: list[int]
    size: int
    fault: Fault | None

    @property
    def end(self) -> int:
        """Steps that the weights have behind them at the end of the journal."""
        first = 0 if self.header is None else self.header.step
        return first + len(self.steps)

    @property
    def steps(self) -> list[Step]:
        """The optimizer steps, in order."""
        return [record for record in self.records if isinstance(record, Step)]


def read_journal(path: Path) -> Contents:
    """Read as far as the file is intact.

    Never fails on what the file holds: a damaged part ends the reading and is told in ``fault``.
    No more bytes are asked for than the file has.

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
        text = _take(file, _fitting(header_length(start), file, size))
        chain = _checked(file, start + text, 0)
        header = decode_header(text)
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
    """The checksum after ``data``, if the file says the same."""
    chain = checksum(data, chain)
    if _take(file, CHECK_BYTES) != check_bytes(chain):
        raise FormatError("its checksum is wrong")
    return chain
