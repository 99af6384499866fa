"""A disk that is full, a folder in use: one sentence, and the run goes on when it can."""

import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main
from zolit.runs.journal import JournalWriter, read_journal


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writing more than ``size`` bytes to a file fails, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    earlier = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, earlier)


@pytest.fixture
def fit(tmp_path: Path, tiny_llama: Path, films_csv: Path) -> list[str]:
    options = {
        "trainer.max_steps": 60,
        "trainer.val_check_interval": 20,
        "trainer.check_val_every_n_epoch": None,
        "trainer.enable_progress_bar": False,
        "trainer.logger": False,
        "run.zero_shot": False,
        "run.test_after_fit": False,
    }
    return [
        "fit",
        "--config",
        write(changed(recipe(tiny_llama, films_csv), options), tmp_path / "r"),
    ]


@pytest.mark.parametrize(("size", "what"), [(9000, "last.ckpt|best.ckpt"), (7000, "journal")])
def test_a_full_disk(
    size: int, what: str, fit: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    main([*fit, "--run.run_dir", str(whole)])
    options = ["--run.run_dir", str(run)]
    if what == "journal":
        options += ["--trainer.limit_val_batches", "0", "--trainer.enable_checkpointing", "false"]
    capsys.readouterr()
    with files_of_at_most(size):
        sentence = refusal(capsys, *fit, *options)
    assert any(name in sentence for name in what.split("|"))
    assert "cannot be written (File too large)" in sentence
    assert "--resume" in sentence
    stopped = read_journal(run / "journal.bin")
    assert stopped.fault is None
    assert 0 < stopped.end < 60
    assert not list(run.rglob(".*.part"))
    main([*fit, "--resume", str(run)])
    found, expected = read_journal(run / "journal.bin"), read_journal(whole / "journal.bin")
    assert found.steps == expected.steps
    assert found.records[-1] == expected.records[-1]


def test_a_run_folder_has_one_writer(
    fit: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    main([*fit, "--run.run_dir", str(run), "--trainer.max_steps", "2"])
    before = (run / "journal.bin").read_bytes()
    other = JournalWriter(run / "journal.bin")
    capsys.readouterr()
    for options in (["--resume", str(run)], ["--run.run_dir", str(run), "--run.overwrite=true"]):
        assert "another process is writing to" in refusal(capsys, *fit, *options)
    other.close()
    assert (run / "journal.bin").read_bytes() == before
    assert (run / "config.yaml").exists()
