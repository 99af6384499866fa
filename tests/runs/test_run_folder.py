import os
from pathlib import Path

import pytest

from zolit.errors import UserError
from zolit.runs.folder import RunFolder


def tree(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


@pytest.mark.parametrize("made", [False, True])
def test_new_or_empty(made: bool, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    if made:
        path.mkdir(parents=True)
    before = tree(tmp_path)
    folder = RunFolder(path)
    folder.check()
    assert tree(tmp_path) == before
    folder.create()
    assert path.is_dir()


def test_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.txt").touch()
    with pytest.raises(UserError, match=r"^run_dir: got .*not empty.*overwrite=True"):
        RunFolder(tmp_path).create()


def test_overwrite_removes_only_a_runs_files(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, overwrite=True)
    folder.checkpoints.mkdir()
    for path in (folder.config, folder.metrics, folder.summary, folder.curves):
        path.touch()
    for path in (folder.checkpoints / "last.ckpt", tmp_path / "notes.txt"):
        path.touch()
    folder.create()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".journal.bin.lock", "notes.txt"]


@pytest.mark.parametrize("below", ["", "run"])
def test_a_file_in_the_way(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; name a folder"):
        RunFolder(tmp_path / "file" / below).check()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_parent(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot be written"):
        RunFolder(tmp_path / "run").check()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a system without room for files")
def test_unwritable_file_system() -> None:
    with pytest.raises(UserError, match="cannot be written"):
        RunFolder("/proc/zolit").check()


def test_discard_takes_back_what_claim_made(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "a" / "b")
    folder.create()
    folder.config.touch()
    folder.discard()
    assert tree(tmp_path) == []


def test_discard_keeps_a_folder_that_was_there(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.create()
    folder.config.touch()
    folder.discard()
    assert tree(tmp_path) == [tmp_path / ".journal.bin.lock", folder.config]


def test_discard_keeps_the_runs_of_others(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "runs" / "a"), RunFolder(tmp_path / "runs" / "b")
    first.claim()
    second.create()
    first.discard()
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["b"]
    second.release()


def test_a_claimed_folder_is_refused_to_others(tmp_path: Path) -> None:
    first, second = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "run", overwrite=True)
    first.claim()
    first.claim()
    first.check()
    with pytest.raises(UserError, match="another process is writing to"):
        second.claim()
    second.discard()
    assert first.path.is_dir()
    first.release()
    second.claim()
    second.release()


def test_a_lock_that_a_run_has_left_is_not_in_the_way(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.claim()
    folder.release()
    RunFolder(tmp_path).check()


def test_claiming_changes_nothing_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    folder = RunFolder(tmp_path, overwrite=True)
    folder.claim()
    folder.discard()
    assert folder.config.read_text(encoding="utf-8") == "seed: 0\n"
