"""Files that are whole or not there, locks and waiting for the disk, on any operating system."""

import doctest
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import zolit.errors
import zolit.files
from zolit.errors import UserError, first_line, nearest, nearest_names
from zolit.files import (
    Lock,
    LockedError,
    check_new_folder,
    is_locked,
    new_folder,
    open_to_change,
    replacing,
    wait_for_disk,
    wait_for_folder,
    write_at,
    write_text,
)


def test_examples() -> None:
    for module in (zolit.files, zolit.errors):
        found = doctest.testmod(module)
        assert found.attempted > 0
        assert found.failed == 0


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    for text in ("a long first text\r\n", "short\n"):
        write_text(file, text)
        assert file.read_bytes() == text.encode()
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("durable", [False, True])
def test_an_error_leaves_the_file_as_it_was(durable: bool, tmp_path: Path) -> None:
    file = tmp_path / "last.ckpt"
    write_text(file, "before")

    def interrupted() -> None:
        with replacing(file, durable) as scratch:
            scratch.write_text("half")
            assert file.read_text() == "before"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [one.read_text() for one in tmp_path.iterdir()] == ["before"]
    (tmp_path / ".last.ckpt.part").write_text("left by a kill, and longer than what follows")
    with replacing(file, durable) as scratch:
        scratch.write_text("after")
    assert [one.read_text() for one in tmp_path.iterdir()] == ["after"]


def test_a_durable_file_is_on_the_disk_before_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        order.append("wait")
        real_sync(descriptor)

    def replace(path: Path, target: Path) -> Path:
        order.append("move")
        return real_replace(path, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    with replacing(tmp_path / "last.ckpt", durable=True) as scratch:
        scratch.write_text("all of it")
    folders = ["wait"] if hasattr(os, "O_DIRECTORY") else []
    assert order == ["wait", "move", *folders]


def test_a_folder_is_whole_or_not_there(tmp_path: Path) -> None:
    to = tmp_path / "deep" / "model"

    def interrupted() -> None:
        with new_folder(to) as scratch:
            (scratch / "weights").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "deep").iterdir()) == []
    to.mkdir()
    with new_folder(to) as scratch:
        (scratch / "weights").write_text("whole")
        assert list(to.iterdir()) == []
    assert [one.name for one in to.parent.iterdir()] == ["model"]
    with pytest.raises(UserError, match=r"^to: got .* which is not empty"):
        check_new_folder(to)


def test_bytes_are_written_where_they_belong(tmp_path: Path) -> None:
    file = tmp_path / "journal.bin"
    descriptor = open_to_change(file)
    assert write_at(descriptor, b"\nabc", 2) == 4
    assert write_at(descriptor, b"\r\n", 0) == 2
    wait_for_disk(descriptor)
    os.close(descriptor)
    assert file.read_bytes() == b"\r\n\nabc"


def test_the_disk_is_waited_for_without_fdatasync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows."""
    waits: list[int] = []
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(os, "fsync", waits.append)
    wait_for_disk(7)
    assert waits == [7]
    monkeypatch.delattr(os, "O_DIRECTORY", raising=False)
    wait_for_folder(tmp_path)
    assert waits == [7]


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    file = tmp_path / "journal.bin"
    assert not is_locked(file)
    assert list(tmp_path.iterdir()) == []
    lock = Lock(file)
    assert is_locked(file)
    with pytest.raises(LockedError):
        Lock(file)
    file.write_text("can be written and read while it is locked")
    file.unlink()
    assert is_locked(file)
    lock.release()
    lock.release()
    assert not is_locked(file)
    Lock(file).release()


def test_a_lock_ends_with_its_process(tmp_path: Path) -> None:
    file = tmp_path / "journal.bin"
    code = f"""
import os, signal
from pathlib import Path
from zolit.files import Lock, is_locked
lock = Lock(Path({str(file)!r}))
print(is_locked(Path({str(file)!r})), flush=True)
os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)  # noqa: S603
    assert ended.stdout == "True\n", ended.stderr
    assert not is_locked(file)


def test_a_file_system_without_locks_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, blocking: bool = True) -> bool:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(zolit.files, "lock_descriptor", refuse)
    file = tmp_path / "journal.bin"
    lock = Lock(file)
    assert not is_locked(file)
    lock.release()


WINDOWS = """
import os, sys
import filelock, lightning, psutil, torch, torchao, transformers  # they look after themselves
import torchmetrics, pandas, rich.progress, transformers.integrations.gguf  # noqa
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None  # importing it raises ImportError
for name in (
    "fdatasync", "register_at_fork", "fork", "pread", "pwrite", "preadv", "pwritev",
    "O_NONBLOCK", "O_DIRECTORY", "O_CLOEXEC", "O_NOFOLLOW", "uname", "getuid", "geteuid",
    "sched_getaffinity", "statvfs", "killpg", "setsid", "posix_fadvise", "sync",
):
    if hasattr(os, name):
        delattr(os, name)
import importlib, pkgutil
from pathlib import Path
import zolit
for found in pkgutil.walk_packages(zolit.__path__, "zolit."):
    # lm-evaluation-harness brings modules that look for Windows by its name.
    if not found.name.endswith("__main__") and not found.name.startswith("zolit.harness."):
        importlib.import_module(found.name)
folder = Path(sys.argv[1])
from zolit.callbacks.peak_memory import peak_memory, resident_memory
from zolit.runs.journal import JournalWriter, read_journal
from zolit.checkpoints.file import FileCheckpoints, read_checkpoint
sys.path.insert(0, sys.argv[2])
from journal_cases import HEADER, step
writer = JournalWriter(folder / "journal.bin")
writer.begin(HEADER)
for number in range(3):
    writer.append(step(number))
try:
    JournalWriter(folder / "journal.bin")
except zolit.errors.UserError as error:
    print(error)
writer.close()
assert read_journal(folder / "journal.bin").records == [step(number) for number in range(3)]
content = {"epoch": 0, "global_step": 0, "pytorch-lightning_version": "2.6.6", "state_dict": {}}
FileCheckpoints().save_checkpoint(content, folder / "last.ckpt")
assert read_checkpoint(folder / "last.ckpt")["global_step"] == 0
resident = resident_memory()  # first: what is asked later may find more
assert peak_memory() > 0.9 * resident > 0
"""


def test_every_module_works_without_what_windows_lacks(tmp_path: Path) -> None:
    cases = Path(__file__).parent
    ended = subprocess.run(  # noqa: S603
        [sys.executable, "-c", WINDOWS, str(tmp_path), str(cases)], capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert "another process is writing to" in ended.stdout
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        ".journal.bin.lock",
        "journal.bin",
        "last.ckpt",
    ]


def test_what_an_error_says_first() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(RuntimeError("  ")) == "RuntimeError"


def test_nearest() -> None:
    assert nearest_names("tetx", ["text", "label"]) == ["text"]
    assert nearest_names("tex", ["text", "texts"], most=1) == ["text"]
    assert nearest_names("text", ["texture"], alike=0.9) == []
    assert nearest("x", ["text", 3]) == "text, 3"
    assert nearest("x", []) == "none"
