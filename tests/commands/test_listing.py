"""``zolit runs``: states, steps and figures from the files of runs."""

import json
from pathlib import Path

import pytest

from zolit.commands.help import help_text, takes_run
from zolit.commands.listing import table
from zolit.commands.on_runs import run as run_command
from zolit.errors import UserError
from zolit.runs.folder import RunFolder
from zolit.runs.found import described, runs_below
from zolit.runs.journal.writer import JournalWriter

METRICS = "epoch,step,train_loss,val_loss\n0,0,0.7,\n0,1,0.6,0.65\n0,2,0.5,\n"


def made(folder: Path, summary: dict[str, object] | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    (folder / "metrics.csv").write_text(METRICS, encoding="utf-8")
    if summary is not None:
        (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


SUMMARY = {
    "status": "finished",
    "steps": 100,
    "zero_shot": {"test_loss": 0.57, "test_accuracy": 0.695},
    "best": {"by": "val_loss", "step": 80, "val_loss": 0.45, "val_accuracy": 0.79},
    "final": {"test_loss": 0.4521, "test_accuracy": 0.786},
}


def test_runs_with_their_states(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made(tmp_path / "first", SUMMARY)
    made(tmp_path / "deeper" / "second")
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "config.yaml").write_text("seed: 0\n", encoding="utf-8")
    run_command(["runs", str(tmp_path)])
    head, second, first = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "state", "steps", "zero-shot", "best", "final"]
    assert str(tmp_path / "first") in first
    for cell in ("finished", "100", "test accuracy 0.695", "val loss 0.45", "(step 80)"):
        assert cell in first
    assert second.split()[1:] == ["killed", "3"]


def test_a_run_that_is_being_written(tmp_path: Path) -> None:
    folder = made(tmp_path / "one", SUMMARY)
    writer = JournalWriter(folder / "journal.bin")
    try:
        found = described(RunFolder(folder))
    finally:
        writer.close()
    assert found["state"] == "running"
    assert found["steps"] == 3
    assert "final" not in found


def test_one_run_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path / "one", SUMMARY)
    assert list(runs_below(folder)) == [folder]
    run_command(["runs", str(folder), "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["best"] == SUMMARY["best"]


def test_a_run_from_python_has_no_recipe_and_is_listed(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    JournalWriter(tmp_path / "one" / "journal.bin").close()
    assert list(runs_below(tmp_path)) == [tmp_path / "one"]
    assert list(runs_below(tmp_path / "one")) == [tmp_path / "one"]


@pytest.mark.parametrize("broken", ["", "[]", "{"])
def test_a_summary_that_is_broken(tmp_path: Path, broken: str) -> None:
    folder = made(tmp_path / "one")
    (folder / "summary.json").write_text(broken, encoding="utf-8")
    assert described(RunFolder(folder))["state"] == "killed"


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected folders with runs of zolit fit below"):
        run_command(["runs", str(tmp_path)])
    with pytest.raises(UserError, match="is no folder"):
        run_command(["runs", str(tmp_path / "none")])


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    lines = table([["a" * 9, "b", "1", "", "c", "d"]]).splitlines()
    assert lines[0].index("state") == lines[1].index("b") == 11


def test_the_command_is_told_and_waits_for_nothing() -> None:
    assert takes_run(["runs"])
    assert "zolit runs" in help_text() or "  runs " in help_text()
