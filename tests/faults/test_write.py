"""A process that dies inside a write, at every byte of it.

The limit on the size of files (RLIMIT_FSIZE) ends a process within the write that goes beyond: the
bytes up to the limit are written, and the signal comes in the midst of the call.
"""

import os
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from journal_cases import HEADER, step, write

from zolit.checkpoints.file import FileCheckpoints, read_checkpoint
from zolit.errors import UserError
from zolit.runs.journal import JournalWriter, Session, read_journal


def killed_beyond(size: int, work: Callable[[], object]) -> bool:
    """Do something in a process that dies when it writes a file beyond ``size``; whether it did."""
    child = os.fork()
    if child == 0:
        try:
            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXFSZ


def two_more(path: Path) -> None:
    """Take the journal of two steps up and add two more."""
    writer = JournalWriter(path)
    writer.take_up(read_journal(path), 2, Session(2, {}))
    writer.append(step(2))
    writer.append(step(3))
    writer.close()


def test_inside_every_byte_of_a_record(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.bin", [step(0), step(1)])
    before = path.read_bytes()
    two_more(path)
    whole = path.read_bytes()
    ends = read_journal(path).offsets
    for size in range(len(before), len(whole)):
        path.write_bytes(before)
        assert killed_beyond(size, lambda: two_more(path))
        assert path.read_bytes() == whole[:size]
        found = read_journal(path)
        # The step in flight is all that is lost, and what is left of it is told.
        assert found.offsets == [end for end in ends if end <= size]
        assert (found.fault is None) == (size in ends)
        JournalWriter(path).close()  # the lock went with the process


def test_inside_every_part_of_the_header(tmp_path: Path) -> None:
    path = tmp_path / "journal.bin"
    size = write(path, []).stat().st_size
    for limit in (1, 15, 16, 17, size - 1):
        path.unlink()
        assert killed_beyond(limit, lambda: write(path, []))
        found = read_journal(path)
        assert (found.header, found.records) == (None, [])
        assert found.fault is not None
        writer = JournalWriter(path)
        with pytest.raises(UserError, match="belongs to an earlier run"):
            writer.begin(HEADER)
        writer.close()


def test_inside_a_checkpoint(tmp_path: Path) -> None:
    frame = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.6.6"}
    path, scratch = tmp_path / "last.ckpt", tmp_path / ".last.ckpt.part"
    io = FileCheckpoints()
    old, new = torch.zeros(600), torch.ones(600)
    io.save_checkpoint({**frame, "state_dict": {"w": old}}, path)
    size = path.stat().st_size
    for limit in range(0, size, 97):
        assert killed_beyond(
            limit, lambda: io.save_checkpoint({**frame, "state_dict": {"w": new}}, path)
        )
        assert scratch.stat().st_size <= limit
        assert torch.equal(read_checkpoint(path)["state_dict"]["w"], old)
    io.save_checkpoint({**frame, "state_dict": {"w": new}}, path)
    assert torch.equal(read_checkpoint(path)["state_dict"]["w"], new)
    assert not scratch.exists()
