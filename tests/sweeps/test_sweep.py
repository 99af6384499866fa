"""The loop of a sweep with runs that are only written down, killed at every moment."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from zolit.errors import UserError
from zolit.sweeps.grid import Point, points_of
from zolit.sweeps.judging import Judge
from zolit.sweeps.kept import Kept, begin
from zolit.sweeps.options import SweepOptions
from zolit.sweeps.sweep import Results, sweep
from zolit.sweeps.table import markdown

STEPS, EACH = 90, 10
JUDGE = Judge("val_loss", {"val_loss": "min", "val_accuracy": "max"})


class Killed(BaseException):
    """Stands for the end of the process."""


class Runs:
    """Makes the summaries of runs; the loss falls to a floor that the point's ``lr`` sets.

    Args:
        kill_at: number of the event at which the process ends: before a run, in the middle of one,
            or after it, before the sweep could note it. None for never.
        broken: points whose run fails after it has made steps.
    """

    def __init__(self, kill_at: int | None = None, broken: tuple[str, ...] = ()) -> None:
        self.kill_at = kill_at
        self.broken = broken
        self.events = 0
        self.steps_made = 0
        self.asked: list[tuple[str, int]] = []

    def __call__(self, point: Point, path: Path, steps: int) -> Mapping[str, Any]:
        self.asked.append((point.name, steps))
        self._event()
        path.mkdir(exist_ok=True)
        file = path / "summary.json"
        before = json.loads(file.read_text())["steps"] if file.exists() else 0
        self.steps_made += steps - before
        self._event()
        if point.name in self.broken and steps > EACH:
            file.write_text(json.dumps({"status": "failed", "steps": before + 1}))
            raise UserError("10 queries in a row were not finite")
        loss = self.loss(point, steps)
        figures = {"val_loss": loss, "val_accuracy": 0.5}
        summary = {
            "status": "finished",
            "steps": steps,
            "fit_seconds": 1.0,
            "validation": figures,
            "validation_step": steps,
            "best": {"by": "val_loss", "step": steps, **figures},
        }
        file.write_text(json.dumps(summary))
        self._event()
        return summary

    def loss(self, point: Point, steps: int) -> float | None:
        distance = abs(math.log10(float(point.values["lr"])) + 2)
        found = 0.3 + 0.1 * distance + 1 / steps + 0.001 * float(point.values.get("seed", 0))
        return None if point.values["lr"] == 10 else found

    def _event(self) -> None:
        if self.events == self.kill_at:
            raise Killed
        self.events += 1


GRID: dict[str, list[Any]] = {"lr": [1e-4, 1e-3, 1e-2, 1e-1, 1], "eps": [0.1, 0.2]}


def started(folder: Path, grid: dict[str, list[Any]] = GRID, **options: Any) -> Path:
    begin(folder, points_of(grid), SweepOptions(**options), {})
    return folder


def go_on(folder: Path, runs: Any, judge: Judge = JUDGE) -> Results:
    kept = Kept(folder)
    try:
        return sweep(kept, STEPS, EACH, judge, runs, lambda line: None)
    finally:
        kept.release()


def test_the_best_point_and_what_was_saved(tmp_path: Path) -> None:
    runs = Runs()
    found = go_on(started(tmp_path / "one"), runs)
    assert dict(found.best.point.values) == {"lr": 1e-2, "eps": 0.1}
    states = [one.state for one in found.every]
    # Ten points, a reduction of three: four go on after 10 steps, two after 30.
    assert (states.count("finished"), states.count("stopped")) == (2, 8)
    counted = [one.known["steps"] for one in found.every if one.known]
    assert sorted(counted) == [10] * 6 + [30] * 2 + [90] * 2
    assert runs.steps_made == sum(counted) == 300, "where a full grid makes 900"
    told = [one.why for one in found.every if one.state == "stopped"]
    assert "place 10 of 10 after 10 steps; the best 4 went on" in told
    assert "place 3 of 4 after 30 steps; the best 2 went on" in told


def test_without_stopping_every_point_makes_all_steps(tmp_path: Path) -> None:
    runs = Runs()
    found = go_on(started(tmp_path / "one", stopping="none"), runs)
    assert {one.state for one in found.every} == {"finished"}
    assert runs.steps_made == 900
    assert found.best.point.values["lr"] == 1e-2


def test_a_kill_at_any_moment_loses_nothing_and_repeats_little(tmp_path: Path) -> None:
    whole = Runs()
    wanted = go_on(started(tmp_path / "whole"), whole)
    content = json.loads((tmp_path / "whole" / "sweep.json").read_text())
    for moment in range(whole.events):
        folder = started(tmp_path / f"killed-{moment}")
        first, second = Runs(kill_at=moment), Runs()
        with pytest.raises(Killed):
            go_on(folder, first)
        found = go_on(folder, second)
        assert [(one.point, one.state, one.why, one.known) for one in found.every] == [
            (one.point, one.state, one.why, one.known) for one in wanted.every
        ]
        assert json.loads((folder / "sweep.json").read_text()) == content
        again = len(first.asked) + len(second.asked) - len(whole.asked)
        assert again in (0, 1), "only the run that was under way is asked for again"


def test_a_third_start_runs_nothing(tmp_path: Path) -> None:
    folder = started(tmp_path / "one")
    go_on(folder, Runs())
    runs = Runs()
    go_on(folder, runs)
    assert runs.asked == []


def test_points_that_differ_by_seed_stand_or_fall_together(tmp_path: Path) -> None:
    runs = Runs()
    grid = {"lr": [1e-4, 1e-3, 1e-2, 1e-1], "seed": [0, 1, 2]}
    found = go_on(started(tmp_path / "one", grid), runs)
    finished = [dict(one.point.values) for one in found.every if one.state == "finished"]
    assert finished == [{"lr": lr, "seed": seed} for lr in (1e-3, 1e-2) for seed in range(3)]
    assert dict(found.best.point.values) == {"lr": 1e-2, "seed": 0}


def test_a_point_that_fails_is_told_and_not_run_again(tmp_path: Path) -> None:
    folder = started(tmp_path / "one")
    runs = Runs(broken=("lr=0.01,eps=0.1",))
    found = go_on(folder, runs)
    [failed] = [one for one in found.every if one.state == "failed"]
    assert (failed.point.name, failed.why) == (
        "lr=0.01,eps=0.1",
        "10 queries in a row were not finite",
    )
    assert found.best.point.name == "lr=0.01,eps=0.2"
    again = Runs()
    go_on(folder, again)
    assert again.asked == []


def test_losses_that_are_not_finite_are_the_worst(tmp_path: Path) -> None:
    found = go_on(started(tmp_path / "one", {"lr": [10, 1e-2, 1e-4, 1]}), Runs())
    [hopeless] = [one for one in found.every if one.point.values["lr"] == 10]
    assert hopeless.why.startswith("place 4 of 4")
    assert "not finite" in markdown(found)


def test_when_every_point_fails(tmp_path: Path) -> None:
    folder = started(tmp_path / "one", {"lr": [1, 2]}, stopping="none")
    with pytest.raises(UserError, match=r"every one has failed \(10 queries in a row"):
        go_on(folder, Runs(broken=("lr=1", "lr=2")))


def test_a_refusal_before_the_first_step_ends_the_sweep(tmp_path: Path) -> None:
    def refuse(point: Point, path: Path, steps: int) -> Mapping[str, Any]:
        raise UserError("the disk is full")

    folder = started(tmp_path / "one")
    with pytest.raises(UserError, match="the disk is full"):
        go_on(folder, refuse)
    assert json.loads((folder / "sweep.json").read_text())["failed"] == {}


def test_runs_without_validations_are_refused(tmp_path: Path) -> None:
    def blind(point: Point, path: Path, steps: int) -> Mapping[str, Any]:
        return {"status": "finished", "steps": steps, "validation": {}}

    with pytest.raises(UserError, match=r"made no validation in 10 steps.*val_check_interval"):
        go_on(started(tmp_path / "one"), blind)


def test_runs_without_the_figure_are_refused(tmp_path: Path) -> None:
    judge = Judge("val_f1", {"val_f1": "max"})
    with pytest.raises(UserError, match=r"best_by: .*has no val_f1.*val_loss, val_accuracy"):
        go_on(started(tmp_path / "one"), Runs(), judge)


def test_first_steps_beyond_the_last_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="first_steps: got 90, but a point makes 90 steps"):
        go_on(started(tmp_path / "one", first_steps=90), Runs())


def test_ties_are_decided_by_the_other_figures() -> None:
    def rank(loss: float | None, accuracy: float) -> tuple[float, ...]:
        return JUDGE.rank([{"last": {"val_loss": loss, "val_accuracy": accuracy}}], "last")

    assert rank(0.5, 0.7) > rank(0.5, 0.6) > rank(0.6, 0.9) > rank(None, 1.0)
    assert rank(float("nan"), 1.0) == rank(float("inf"), 1.0) == rank(None, 1.0)


def test_a_stopped_point_that_was_better_is_told(tmp_path: Path) -> None:
    class Early(Runs):
        """One point is best at once, and worse at the stop than it was."""

        def __call__(self, point: Point, path: Path, steps: int) -> Mapping[str, Any]:
            summary = dict(super().__call__(point, path, steps))
            if point.values["lr"] == 1:
                summary["best"] = {**summary["best"], "step": 5, "val_loss": 0.01}
            return summary

    found = go_on(started(tmp_path / "one", {"lr": [1e-2, 1e-3, 1]}), Early())
    [note] = found.notes
    assert note.startswith("lr 1 was stopped, but its best val loss (0.01 at step 5) is better")
    assert note in markdown(found)


def test_the_table(tmp_path: Path) -> None:
    found = go_on(started(tmp_path / "one", {"lr": [1e-2, 1e-3, 1]}), Runs())
    head, rule, best, *others = markdown(found).strip().splitlines()
    cells = [one.strip() for one in head.strip("|").split("|")]
    assert cells == ["lr", "val loss, last", "val loss, best", "at step", "steps", "s", ""]
    assert "the best" in best
    assert "0.3111" in best
    assert all("stopped: place" in one for one in others)
    assert {len(one) for one in (rule, best, *others)} == {len(head)}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"reduction": 1}, "reduction: got 1, expected 2 or more"),
        ({"first_steps": 0}, "first_steps: got 0, expected 1 or more"),
        ({"stopping": "median"}, "stopping: got 'median', expected halving or none"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        SweepOptions(**options)
