"""Folders that may be read and not written."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main
from zolit.runs.journal import read_journal

NOBODY = 65534


@contextmanager
def ordinary_user() -> Iterator[None]:
    """The rights of a file bind the superuser only after this."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def opened(folder: Path) -> None:
    """Let any user pass through the folders above, which pytest keeps to itself."""
    while folder != folder.parent:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(folder.stat().st_mode | 0o055)
        folder = folder.parent


def test_a_folder_that_may_not_be_written(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {
        "trainer.max_steps": 2,
        "trainer.val_check_interval": 2,
        "run.zero_shot": False,
        "run.test_after_fit": False,
    }
    file = write(changed(recipe(tiny_llama, films_csv), options), tmp_path / "recipe.yaml")
    run = tmp_path / "run"
    main(["fit", "--config", file, "--run.run_dir", str(run)])
    before = (run / "journal.bin").read_bytes()
    for folder in (tmp_path, tiny_llama, films_csv.parent):
        opened(folder)
    for path in (run, *run.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    tmp_path.chmod(0o555)
    capsys.readouterr()
    try:
        with ordinary_user():
            resume = refusal(capsys, "fit", "--config", file, "--resume", str(run))
            new = refusal(capsys, "fit", "--config", file, "--run.run_dir", str(tmp_path / "new"))
            main(["verify", str(run), "--records"])
    finally:
        tmp_path.chmod(0o755)
        for path in (run, *(one for one in run.rglob("*") if one.is_dir())):
            path.chmod(0o755)
    for sentence, name in ((resume, "run"), (new, "new")):
        assert f"run.run_dir: got {str(tmp_path / name)!r}, which cannot be written" in sentence
    assert "2 steps, intact" in capsys.readouterr().out
    assert (run / "journal.bin").read_bytes() == before
    assert read_journal(run / "journal.bin").end == 2
    assert not (tmp_path / "new").exists()
