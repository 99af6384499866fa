"""Runs side by side: the lines, their numbers, what is refused and what is told."""

import csv
import io
import math
from pathlib import Path
from typing import Any

import pytest
from folders import JUDGED, made

from zolit.cli import main
from zolit.comparison.compare import compare
from zolit.errors import UserError

ACCURACIES = (0.7, 0.75, 0.83)
"""Of three seeds. Mean 0.76; the squares of the deviations add to 0.0086."""


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    """Two recipes that differ in lr, three seeds of the first and one of the other."""
    for seed, accuracy in enumerate(ACCURACIES):
        made(tmp_path / f"qzo-seed{seed}", accuracy, seed)
    made(tmp_path / "slow", 0.6, options={"model.optimizer.init_args.lr": 0.001}, curve=(0.5, 0.5))
    return tmp_path


def test_runs_that_differ_only_by_seed_are_a_line(seeds: Path) -> None:
    found = compare([seeds])
    first, second = found.rows()
    assert [one["recipe"] for one in (first, second)] == ["qzo", "slow"]
    assert (first["runs"], first["finished"], second["runs"]) == (3, 3, 1)
    assert first["figure"] == "test_accuracy"
    assert first["mean"] == pytest.approx(0.76)
    assert first["spread"] == pytest.approx(math.sqrt(0.0086 / 2))
    assert second["spread"] is None
    assert first["untuned"] == 0.5
    assert first["seconds"] == 41.0
    assert first["peak_memory_mb"] == 502.0, "the largest of the seeds"
    assert first["checkpoint_mb"] == 1.0, "the best one, not the last"
    assert (first["steps"], first["forwards"]) == (4, 8)
    assert "different seeds (qzo: 0 1 2, slow: 0)" in found.notes[0]


def test_the_table_in_markdown(seeds: Path) -> None:
    text = compare([seeds], reach=0.6).markdown()
    head, rule, first, second, *rest = text.splitlines()
    assert {len(head), len(rule), len(first), len(second)} == {len(head)}
    cells = [one.strip() for one in head.strip("|").split("|")]
    assert cells == [
        "recipe",
        "runs",
        "test accuracy",
        "each run",
        "untuned",
        "steps",
        "forwards",
        "wall-clock, s",
        "peak memory, MB",
        "checkpoint, MB",
        "s to val accuracy 0.6",
    ], "nothing was counted backwards: the column is left out"
    assert "0.76 ± 0.066" in first
    assert "| 0.7 0.75 0.83 |" in first
    assert "| 40 " in first, "the second validation came after 40 s"
    assert "not reached" in second
    assert "- slow: model.optimizer.lr 0.001" in rest
    assert "- qzo: model.optimizer.lr 0.1" in rest


def test_the_table_in_csv(seeds: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(compare([seeds]).csv())))
    assert [float(row["mean"]) for row in rows] == pytest.approx([0.76, 0.6])
    assert rows[0]["seeds"] == "0 1 2"
    assert rows[0]["backwards"] == ""


def test_places_and_class_paths_do_not_make_another_recipe(tmp_path: Path) -> None:
    moved = {"model.optimizer.class_path": "zolit.optim.sgd.ZOSGD", "run.run_dir": "elsewhere"}
    made(tmp_path / "a1", 0.7)
    made(tmp_path / "a2", 0.8, 1, moved)
    made(tmp_path / "b", 0.8, 0, {"run.best_by": "val_accuracy"})
    assert [len(line.records) for line in compare([tmp_path]).lines] == [2, 1]


def test_a_mapping_names_the_lines(tmp_path: Path) -> None:
    made(tmp_path / "1", 0.7)
    made(tmp_path / "2", 0.8, options={"model.optimizer.init_args.lr": 1.0})
    found = compare({"both": [tmp_path / "1", tmp_path / "2"]})
    assert [(one["recipe"], one["mean"]) for one in found.rows()] == [("both", 0.75)]


def test_a_run_that_is_named_twice_counts_once(seeds: Path) -> None:
    assert compare([seeds, seeds / "slow"]).rows() == compare([seeds]).rows()


def test_unfinished_runs_are_told_and_do_not_count(tmp_path: Path) -> None:
    made(tmp_path / "qzo-seed0", 0.7)
    made(tmp_path / "qzo-seed1", None, 1, status="interrupted", steps=3)
    made(tmp_path / "qzo-seed2", None, 2, status=None)
    # Resumed for more steps and killed: the summary is that of the first part.
    made(tmp_path / "qzo-seed3", 0.9, 3, fit_seconds=20.0)
    found = compare([tmp_path])
    [row] = found.rows()
    assert (row["runs"], row["finished"], row["mean"]) == (4, 1, 0.7)
    assert "1 of 4" in found.markdown()
    for seed, state in ((1, "interrupted after 3"), (2, "killed after 4"), (3, "killed after 4")):
        [told] = [note for note in found.notes if f"seed{seed} is not finished" in note]
        assert state in told
        assert f"zolit fit --resume {tmp_path / f'qzo-seed{seed}'}" in told


def test_a_finished_run_without_a_test_is_told(tmp_path: Path) -> None:
    made(tmp_path / "a", 0.7)
    made(tmp_path / "b", None, 1)
    found = compare([tmp_path])
    assert found.rows()[0]["measured"] == 1
    assert f"finished, but without test_accuracy: {tmp_path / 'b'}" in found.notes


def test_validations_are_compared_where_there_is_no_test(tmp_path: Path) -> None:
    made(tmp_path / "a", None, curve=(0.5, 0.625))
    made(tmp_path / "b", None, 1, curve=(0.5, 0.875))
    assert compare([tmp_path]).rows()[0]["mean"] == 0.75
    assert compare([tmp_path]).figure.key == "val_accuracy"


@pytest.mark.parametrize(
    ("metric", "key"),
    [("test_loss", "test_loss"), ("val_loss", "val_loss"), ("loss", "test_loss")],
)
def test_another_figure_by_name(seeds: Path, metric: str, key: str) -> None:
    found = compare([seeds], metric)
    assert found.figure.key == key
    assert not found.figure.larger_is_better


def test_time_until_a_loss_is_small_enough(tmp_path: Path) -> None:
    made(tmp_path / "a", 0.7)
    assert compare([tmp_path], "loss", reach=0.5).rows()[0]["seconds_to_reach"] == 20.0
    assert compare([tmp_path], "loss", reach=0.49).rows()[0]["reached"] == 0


def test_runs_of_an_older_zolit(tmp_path: Path) -> None:
    old = {"judged": None, "forwards": None}
    made(tmp_path / "old", 0.7, totals=False, **old)
    found = compare([tmp_path], reach=0.6)
    [row] = found.rows()
    assert row["figure"] == "test_accuracy"
    assert row["forwards"] is None
    assert row["seconds_to_reach"] == pytest.approx(1.0), "100 + 200 + 300 + 400 ms of steps"
    assert any("larger is taken as better" in note for note in found.notes)
    assert any("times to a figure are those of the steps alone" in note for note in found.notes)


def test_first_order_runs_beside_zeroth_order_ones(tmp_path: Path) -> None:
    made(tmp_path / "zero", 0.7)
    made(tmp_path / "first", 0.8, options={"model.seed": 0, "model.tune": "x"}, backwards=4)
    first, zero = compare([tmp_path]).rows()
    assert (first["backwards"], zero["backwards"]) == (4, None)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"data.init_args.task": "trec"}, "data.task is 'sst2' in .* and 'trec' in"),
        ({"data.class_path": "my.Data"}, "data is .* and 'my.Data' in"),
    ],
)
def test_other_rows_are_refused(tmp_path: Path, options: dict[str, Any], sentence: str) -> None:
    made(tmp_path / "a", 0.7)
    made(tmp_path / "b", 0.8, options=options)
    with pytest.raises(UserError, match=f"runs: {sentence}.*compare these runs apart"):
        compare([tmp_path])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"data.init_args.test_size": 50}, True),
        ({"data.init_args.shots": 4}, True),
        ({"trainer.limit_test_batches": 2}, True),
        ({"data.init_args.batch_size": 16}, False),
        ({"data.init_args.validation_size": 50}, False),
    ],
)
def test_what_may_change_the_test_is_told(
    tmp_path: Path, options: dict[str, Any], told: bool
) -> None:
    made(tmp_path / "a", 0.7)
    made(tmp_path / "b", 0.8, options=options)
    notes = compare([tmp_path]).notes
    assert any("not all on the same rows or prompts" in note for note in notes) is told


def test_a_file_of_the_same_name_elsewhere_is_told(tmp_path: Path) -> None:
    key = "data.init_args.rows"
    made(tmp_path / "a", 0.7, options={key: {"init_args": {"path": "/here/train.csv"}}})
    made(tmp_path / "b", 0.8, options={key: {"init_args": {"path": "/there/train.csv"}}})
    assert "data.rows.path is '/here/train.csv'" in compare([tmp_path]).notes[0]


def test_runs_from_python_are_lines_of_their_own(tmp_path: Path) -> None:
    made(tmp_path / "a", 0.7, recipe=False)
    made(tmp_path / "b", 0.8, recipe=False)
    found = compare([tmp_path])
    assert [one["recipe"] for one in found.rows()] == ["a", "b"]
    assert "made from Python, without a recipe" in found.notes[0]


def test_runs_judged_by_different_figures_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "a", 0.7)
    made(tmp_path / "b", 0.8, judged={**JUDGED, "primary": "f1"})
    with pytest.raises(UserError, match=r"judged by different figures .*name one .* by metric"):
        compare([tmp_path])
    assert compare([tmp_path], "accuracy").rows()[0]["mean"] == 0.75


def test_figures_of_two_directions_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "a", 0.7)
    made(tmp_path / "b", 0.8, judged={"primary": "accuracy", "modes": {"accuracy": "min"}})
    with pytest.raises(UserError, match="small in some of the runs and large in others"):
        compare([tmp_path])


def test_peak_memory_of_two_kinds_is_told(tmp_path: Path) -> None:
    made(tmp_path / "a", 0.7)
    made(tmp_path / "b", 0.8, 1, memory="cuda")
    assert any("not of one kind" in note for note in compare([tmp_path]).notes)


def test_broken_files_are_as_missing_ones(tmp_path: Path) -> None:
    made(tmp_path / "a", 0.7)
    broken = made(tmp_path / "b", 0.7)
    (broken / "summary.json").write_text('{"status": "fin', encoding="utf-8")
    (broken / "metrics.csv").write_bytes(b"step,val_loss\n0,nan\n1,\xff\xfe")
    assert any(f"{broken} is not finished (killed" in one for one in compare([tmp_path]).notes)


def test_no_runs_and_no_figures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"compare: got .* which is no folder"):
        compare([tmp_path / "none"])
    with pytest.raises(UserError, match="got no run of zolit fit"):
        compare([tmp_path])
    folder = made(tmp_path / "a", None, status=None)
    (folder / "metrics.csv").unlink()
    with pytest.raises(UserError, match="has figures yet"):
        compare([tmp_path])


def test_the_command_writes_what_it_is_told(
    seeds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {name: tmp_path / f"table.{name}" for name in ("markdown", "csv", "png")}
    options = [part for name, file in files.items() for part in (f"--{name}", str(file))]
    main(["compare", str(seeds), "--reach", "0.6", *options])
    printed = capsys.readouterr().out
    assert files["markdown"].read_text(encoding="utf-8") == printed
    assert "0.76 ± 0.066" in printed
    assert files["csv"].read_text(encoding="utf-8") == compare([seeds], reach=0.6).csv()
    assert files["png"].read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--metric", "acuracy"], "--metric: got 'acuracy', which is no figure of these runs; "),
        (["--reach", "nan"], "--reach: got nan, expected a number"),
        (["--reach", "high"], "argument --reach: invalid float value"),
        (["--csv", "no/such/table.csv"], "--csv: got 'no/such/table.csv', expected a file in an"),
        (["--png", "."], "--png: got '.', expected a file"),
    ],
)
def test_bad_options_are_refused(
    seeds: Path, options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["compare", str(seeds), *options])
    assert stop.value.code == 2
    assert sentence in capsys.readouterr().err
