"""The writer: durable, alone, whole records only."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from journal_cases import HEADER, RECORDS, step, write

import zolit.runs.journal.writer
from zolit.errors import UserError
from zolit.files import write_at
from zolit.runs.journal import JournalWriter, Session, Step, Weights, read_journal
from zolit.runs.journal.writer import is_written


def taken_up(path: Path, steps: int) -> JournalWriter:
    writer = JournalWriter(path)
    writer.take_up(read_journal(path), steps, Session(steps, {"again": 1}))
    return writer


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.bin"
    writer = JournalWriter(path)
    assert is_written(path)
    with pytest.raises(UserError, match="another process is writing"):
        JournalWriter(path)
    code = f"""
from pathlib import Path
from zolit.runs.journal import JournalWriter
JournalWriter(Path({str(path)!r}))
"""
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)  # noqa: S603
    assert "another process is writing" in other.stderr
    writer.close()
    writer.close()
    assert not is_written(path)
    JournalWriter(path).close()
    assert not is_written(tmp_path / "none")


def test_a_forked_worker_does_not_keep_the_lock(tmp_path: Path) -> None:
    writer = JournalWriter(tmp_path / "journal.bin")
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        assert is_written(writer.path)
        writer.close()  # as the end of the process does
        deadline = time.monotonic() + 20
        while is_written(tmp_path / "journal.bin") and time.monotonic() < deadline:
            time.sleep(0.01)  # until the child has run
        assert not is_written(tmp_path / "journal.bin")
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_an_earlier_journal_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.bin")
    with pytest.raises(UserError, match="belongs to an earlier run"):
        JournalWriter(path).begin(HEADER)
    assert read_journal(path).records == RECORDS


def test_steps_between_waits_for_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda file: waits.append(real(file)))
    writer = JournalWriter(tmp_path / "journal.bin", every_n_steps=3)
    writer.begin(HEADER)
    assert len(waits) == 1
    for number in range(7):
        writer.append(step(number))
        # In the operating system's hands at once, whatever the disk does.
        assert len(read_journal(writer.path).records) == number + 1
    assert len(waits) == 3
    writer.flush()
    assert len(waits) == 4
    with pytest.raises(UserError, match="every_n_steps must be at least 1"):
        JournalWriter(tmp_path / "journal.bin", 0)


@pytest.mark.parametrize("written", [0, 1, 40])
def test_a_full_disk_leaves_whole_records(
    written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal.bin"
    writer = JournalWriter(path)
    writer.begin(HEADER)
    writer.append(step(0))
    real, room = write_at, [written]

    def full(file: int, data: bytes, offset: int) -> int:
        if room[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        done = real(file, data[: room[0]], offset)
        room[0] -= done
        return done

    monkeypatch.setattr(zolit.runs.journal.writer, "write_at", full)
    with pytest.raises(UserError, match=r"No space left on device\); make room and go on with"):
        writer.append(step(1))
    monkeypatch.undo()
    found = read_journal(path)
    assert found.records == [step(0)]
    assert found.fault is None
    writer.append(step(1))
    assert read_journal(path).records == [step(0), step(1)]


def test_a_real_full_device(tmp_path: Path) -> None:
    full = tmp_path / "journal.bin"
    if not Path("/dev/full").exists():
        pytest.skip("the system has no /dev/full")
    full.symlink_to("/dev/full")
    with pytest.raises(UserError, match="cannot be written"):
        JournalWriter(full).begin(HEADER)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"journal: .*cannot be written .*use a folder"):
        JournalWriter(tmp_path / "file" / "journal.bin")
    with pytest.raises(UserError, match="cannot be written"):
        JournalWriter(tmp_path / "missing" / "journal.bin")


def test_taken_up_at_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.bin", RECORDS[:4])
    writer = taken_up(path, 3)
    assert path.read_bytes() == write(tmp_path / "same.bin", RECORDS[:4]).read_bytes()
    assert writer.append(step(3)) is None
    assert read_journal(path).records == [*RECORDS[:4], Session(3, {"again": 1}), step(3)]


def test_equal_steps_are_confirmed_and_not_written_again(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.bin")
    before = path.read_bytes()
    writer = taken_up(path, 1)
    for record in (step(1, 3), step(2, 0), RECORDS[3], step(3)):
        assert writer.append(record) is None
    assert path.read_bytes() == before
    assert writer.append(RECORDS[6]) is None
    assert writer.append(step(4)) is None
    assert read_journal(path).records == [*RECORDS, Session(4, {"again": 1}), step(4)]


def test_another_step_replaces_what_follows(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.bin")
    writer = taken_up(path, 2)
    other = step(2, 5)
    assert writer.append(other) == step(2, 0)
    assert writer.append(step(3)) is None
    found = read_journal(path)
    assert found.fault is None
    assert found.records == [*RECORDS[:2], Session(2, {"again": 1}), other, step(3)]


def test_another_digest_of_the_same_steps_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.bin")
    writer = taken_up(path, 2)
    writer.append(step(2, 0))
    assert writer.append(Weights(3, b"x" * 16)) == RECORDS[3]
    assert read_journal(path).records[-1] == Weights(3, b"x" * 16)


def test_a_digest_before_unconfirmed_steps_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "journal.bin", [step(0), step(1)])
    before = path.read_bytes()
    writer = taken_up(path, 1)
    assert writer.append(Weights(1, bytes(16))) is None
    assert path.read_bytes() == before
    writer.append(step(1))
    writer.append(Weights(2, bytes(16)))
    assert read_journal(path).records[-1] == Weights(2, bytes(16))


@pytest.mark.parametrize("lost", [1, 30, 70])
def test_a_damaged_end_is_cut_off(lost: int, tmp_path: Path) -> None:
    path = write(tmp_path / "journal.bin", [step(0), step(1), step(2)])
    path.write_bytes(path.read_bytes()[:-lost])
    steps = len(read_journal(path).steps)
    writer = taken_up(path, steps)
    for number in range(steps, 4):
        writer.append(step(number))
    found: Any = read_journal(path)
    assert found.fault is None
    assert [one for one in found.records if isinstance(one, Step)] == [step(n) for n in range(4)]
