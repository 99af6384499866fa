"""Appends to a journal and waits for the disk; only one process may write at a time."""

import errno
import os
from collections import deque
from dataclasses import replace
from pathlib import Path

from zolit.arguments import at_least
from zolit.caller import by_caller
from zolit.errors import UserError
from zolit.files import Lock, LockedError, is_locked, open_to_change, wait_for_disk, write_at
from zolit.runs.journal.format import check_bytes, checksum, encode, encode_header
from zolit.runs.journal.reader import Contents
from zolit.runs.journal.records import Header, Record, Session, Step


class JournalWriter:
    """The one writer of a journal; holds the file's lock until it is closed.

    A record is handed to the operating system as a whole when it is appended, so a process that
    dies loses none. The writer waits for the disk every ``every_n_steps`` steps and in `flush`.

    A journal that is resumed at an earlier step than its last is not cut. The steps that are made
    again are compared with their records. Only if a record differs, it and all later ones are
    replaced.

    Args:
        path: of the file; made if it does not exist.
        every_n_steps: steps between two waits for the disk.

    Raises:
        UserError: if another process writes this journal, or the file cannot be written.
    """

    def __init__(self, path: Path, every_n_steps: int = 1) -> None:
        at_least("every_n_steps", every_n_steps)
        self.path = path
        self.every_n_steps = every_n_steps
        self._unsynced = 0
        self._chain = 0
        self._offset = 0
        self._tail: deque[tuple[Record, int, int]] = deque()
        self._session: Session | None = None
        try:
            self._lock = Lock(path)
        except LockedError as error:
            raise UserError(
                f"run: another process is writing to {str(path.parent)!r}; wait until it has "
                f"ended, or name another folder with {by_caller('--run.run_dir', 'run_dir')}"
            ) from error
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            self._file = open_to_change(path)
        except OSError as error:
            self._lock.release()
            raise self._unwritable(error) from error

    def begin(self, header: Header) -> None:
        """Write the header of a new journal.

        Raises:
            UserError: if the file holds something, or cannot be written.
        """
        if os.fstat(self._file).st_size > 0:
            raise UserError(
                f"journal: {str(self.path)!r} belongs to an earlier run; "
                + by_caller(
                    "go on with it by --resume, or replace it with --run.overwrite=true",
                    f"go on with it by zolit.fit(module, data, {str(self.path.parent)!r}, "
                    "resume=True), or name another run_dir",
                )
            )
        data = encode_header(header)
        self._write(data)
        self.flush()

    def take_up(self, contents: Contents, steps: int, session: Session) -> None:
        """Continue a journal that was read after ``steps`` of its steps.

        Args:
            contents: of this file. Bytes behind its intact part are cut off.
            steps: steps whose weights the caller has.
            session: written before the first new record.

        Raises:
            UserError: if the file cannot be written.
        """
        place, made = 0, contents.end - len(contents.steps)
        while made < steps:
            made += isinstance(contents.records[place], Step)
            place += 1
        self._offset, self._chain = contents.offsets[place], contents.chains[place]
        ends = zip(contents.offsets[place + 1 :], contents.chains[place + 1 :], strict=True)
        self._tail = deque(
            (record, offset, chain)
            for record, (offset, chain) in zip(contents.records[place:], ends, strict=True)
        )
        self._session = session
        if contents.size > contents.offsets[-1]:
            self._truncate(contents.offsets[-1])

    def append(self, record: Record) -> Record | None:
        """Write a record, unless the journal has it already.

        Returns:
            An earlier record of the same step that differs and was replaced; None for none.

        Raises:
            UserError: if the file cannot be written. It then ends with the last whole record.
        """
        replaced = None
        self._pass_over(type(record))
        if self._tail:
            earlier, offset, chain = self._tail[0]
            if type(earlier) is not type(record):
                return None  # a digest; the steps before it have not been made again yet
            if earlier == record:
                self._tail.popleft()
                self._offset, self._chain = offset, chain
                return None
            replaced = earlier
            self._tail.clear()
            self._truncate(self._offset)
        if self._session is not None:
            session, self._session = self._session, None
            self._write(encode(replace(session, step=record.step)))
        self._write(encode(record))
        self._unsynced += isinstance(record, Step)
        if self._unsynced >= self.every_n_steps:
            self.flush()
        return replaced

    def _pass_over(self, kind: type[Record]) -> None:
        """Skip the records before the next one of this kind.

        Sessions are always skipped; steps also skip digests.
        """
        while self._tail and (
            isinstance(self._tail[0][0], Session)
            or (kind is Step and not isinstance(self._tail[0][0], Step))
        ):
            _, self._offset, self._chain = self._tail.popleft()

    def flush(self) -> None:
        """Wait until all records are on the disk.

        Raises:
            UserError: if they cannot be written.
        """
        try:
            wait_for_disk(self._file)
        except OSError as error:
            raise self._unwritable(error) from error
        self._unsynced = 0

    def close(self) -> None:
        """Close the file and release its lock; may be called again."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
        self._lock.release()

    def _write(self, data: bytes) -> None:
        chain = checksum(data, self._chain)
        data += check_bytes(chain)
        done = 0
        try:
            while done < len(data):
                done += write_at(self._file, data[done:], self._offset + done)
        except OSError as error:
            if done:
                self._truncate(self._offset)
            raise self._unwritable(error) from error
        self._offset += len(data)
        self._chain = chain

    def _truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._file, size)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> UserError:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        step = "make room" if full else "use a folder you may write"
        resume = by_caller(
            f"--resume {self.path.parent}",
            f"zolit.fit(module, data, {str(self.path.parent)!r}, resume=True)",
        )
        return UserError(
            f"journal: {str(self.path)!r} cannot be written ({error.strerror or error}); {step} "
            f"and go on with {resume}"
        )


def is_written(path: Path) -> bool:
    """Whether a process has this journal open for writing."""
    return is_locked(path)
