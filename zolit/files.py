"""Files that are whole or not there, locks, and waiting for the disk; on Linux, macOS and Windows.

Whatever differs between operating systems in reading and writing files is decided here: the rest
of zolit calls these functions.
"""

import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import lock_descriptor

from zolit.caller import by_caller
from zolit.errors import UserError

_BINARY = getattr(os, "O_BINARY", 0)
"""Windows would otherwise change the ends of lines."""

_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0)
"""A pipe would otherwise keep an open waiting. Windows has no pipes in folders."""


def open_to_read(path: Path) -> int:
    """A descriptor for reading bytes; returns at once where ``path`` is a pipe.

    Raises:
        OSError: if it cannot be opened.
    """
    return os.open(path, os.O_RDONLY | _BINARY | _WITHOUT_WAITING)


def open_to_change(path: Path) -> int:
    """A descriptor for reading and writing bytes of a file, which is made if it is not there.

    Raises:
        OSError: if it cannot be opened.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o644)


def write_at(descriptor: int, data: bytes, offset: int) -> int:
    """Write ``data`` at a place of a file; how many bytes of it were taken.

    Moves the descriptor's position: one thread writes at a time.

    Raises:
        OSError: if nothing could be written.
    """
    os.lseek(descriptor, offset, os.SEEK_SET)
    return os.write(descriptor, data)


def wait_for_disk(descriptor: int) -> None:
    """Return when what was written is on the disk, so that a loss of power does not lose it.

    Uses ``fdatasync`` where the system has it, which leaves the file's times alone, and ``fsync``
    elsewhere. On macOS the drive may still hold the data in a cache of its own.

    Raises:
        OSError: if it cannot be written there.
    """
    getattr(os, "fdatasync", os.fsync)(descriptor)


def wait_for_folder(folder: Path) -> None:
    """Return when the names in a folder are on the disk.

    Windows opens no folders and keeps their names in a journal of its own: nothing is done there.

    Raises:
        OSError: if they cannot be written there.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path, durable: bool = False) -> Iterator[Path]:
    """A scratch file beside ``path``, moved to its place when the block has ended.

    A reader, or a process that is killed, never meets half a file: ``path`` is what it was before,
    or whole. An error in the block removes the scratch file. A kill leaves it; it has one name, so
    that the next write of ``path`` goes over it. One process writes a path at a time.

    Args:
        path: of the file, in a folder that exists.
        durable: wait until the file and its name are on the disk.

    Raises:
        OSError: if the file cannot be moved, or the disk cannot be waited for.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     place = Path(folder) / "figures.txt"
        ...     with replacing(place) as scratch:
        ...         _ = scratch.write_text("0.93")
        ...     place.read_text()
        '0.93'
    """
    scratch = _beside(path)
    try:
        yield scratch
        if durable:
            with scratch.open("r+b") as file:
                os.fsync(file.fileno())
        scratch.replace(path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    if durable:
        wait_for_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` in UTF-8 so that a reader, or a kill, never meets half of it.

    Ends of lines are written as they are in ``text``, on Windows as well.

    Raises:
        OSError: if it cannot be written.
    """
    with replacing(path) as scratch:
        scratch.write_text(text, encoding="utf-8", newline="")


def check_new_folder(to: Path) -> None:
    """Refuse a place that holds something.

    Raises:
        UserError: if it is a file or a folder that is not empty.
    """
    if to.is_symlink() or (to.exists() and (not to.is_dir() or any(to.iterdir()))):
        raise UserError(
            f"{by_caller('--to', 'to')}: got {str(to)!r}, which is not empty; name a new folder"
        )


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """A scratch folder beside ``to``, put in its place at the end, removed after an error.

    Args:
        to: a folder that is empty or does not exist.

    Raises:
        UserError: if it holds something or cannot be written.
    """
    check_new_folder(to)
    scratch = _beside(to)
    try:
        if scratch.exists():
            shutil.rmtree(scratch)  # left by a kill
        scratch.mkdir(parents=True)
        try:
            yield scratch
            if to.exists():
                to.rmdir()
            scratch.replace(to)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(
            f"{by_caller('--to', 'to')}: {str(to)!r} cannot be written "
            f"({error.strerror or error}); name another folder"
        ) from error


def _beside(path: Path) -> Path:
    """Where a file or folder is written before it is moved to ``path``, in the same file system."""
    return path.with_name(f".{path.name}.part")


def work_folder(path: Path) -> Path:
    """Where a file that takes long to compute is prepared, so that a killed process goes on."""
    return path.with_name(f".{path.name}.work")


class Lock:
    """Keeps other processes from writing a file, until it is released or the process ends.

    The lock is on a file of its own beside the guarded one, which is never removed: Windows lets
    nobody read a file that is locked, and a lock on a file that is replaced guards the old one.
    However a process ends, the operating system releases its locks; a file system that has none
    is written without. Processes that are forked from this one do not hold the lock.

    Args:
        path: of the guarded file, in a folder that can be written.

    Raises:
        LockedError: if the lock is taken, by this process or another one.
        OSError: if its file cannot be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     guarded = Path(folder) / "journal.bin"
        ...     lock = Lock(guarded)
        ...     held = is_locked(guarded)
        ...     lock.release()
        ...     held, is_locked(guarded)
        (True, False)
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = open_to_change(lock_file(path))
        _held.add(self)
        if not _lock(self._descriptor):
            self.release()
            raise LockedError(f"{str(path)!r} is locked")

    def release(self) -> None:
        """Let others write; may be called again."""
        if self._descriptor >= 0:
            # Closing it is enough, and leaves the lock to the parent in a forked process.
            os.close(self._descriptor)
            self._descriptor = -1


class LockedError(Exception):
    """Another process, or another lock of this one, holds a lock."""


def is_locked(path: Path) -> bool:
    """Whether someone holds the `Lock` of a file. Writes nothing."""
    try:
        descriptor = open_to_read(lock_file(path))
    except OSError:
        return False
    try:
        return not _lock(descriptor)
    finally:
        os.close(descriptor)


def lock_file(path: Path) -> Path:
    """The file beside `path` whose lock guards it."""
    return path.with_name(f".{path.name}.lock")


def _lock(descriptor: int) -> bool:
    try:
        return lock_descriptor(descriptor, blocking=False)
    except OSError:
        return True  # a file system without locks


_held: "weakref.WeakSet[Lock]" = weakref.WeakSet()


def _release_all() -> None:
    for lock in list(_held):
        lock.release()


# A worker that loads data would keep the lock of a run that was killed until it ends itself.
# Where processes cannot be forked, none inherits a lock.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_release_all)
