"""Runs the points of a grid, stops the hopeless ones, and says which is best."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zolit.caller import option
from zolit.errors import UserError
from zolit.runs.folder import RunFolder, summary_of
from zolit.sweeps.grid import Point
from zolit.sweeps.halving import budgets, ordered, survivors
from zolit.sweeps.judging import Judge, noted
from zolit.sweeps.kept import Kept

Run = Callable[[Point, Path, int], Mapping[str, Any]]
"""Brings the run of a point, in a folder, to a number of steps; its summary."""

Choice = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Result:
    """What came of a point.

    Attributes:
        point: of the grid.
        path: folder of its run.
        state: ``finished``, ``stopped`` or ``failed``.
        why: it did not finish; empty otherwise.
        known: what is known of it (`noted`); None if it failed before its first validation.
    """

    point: Point
    path: Path
    state: str
    why: str
    known: Mapping[str, Any] | None


@dataclass(frozen=True)
class Results:
    """What came of a sweep.

    Attributes:
        every: the points, in the order of the grid.
        best: of those that made all steps, the one with the best validation; of points that differ
            by seed alone, the first of those whose mean is best.
        judge: that ranked them.
        notes: what a reader has to know beside the table.
    """

    every: list[Result]
    best: Result
    judge: Judge
    notes: list[str] = field(default_factory=list)


def sweep(
    kept: Kept, steps: int, each: int, judge: Judge, run: Run, say: Callable[[str], None] = print
) -> Results:
    """Run the points until one has made all steps and the others have made theirs or are stopped.

    All points make the first number of steps, then those that are left the second, and so on
    (`halving.budgets`). After each number the points are ranked by their last validation, with
    the mean over points that differ by seed alone, and one in ``reduction`` goes on. What is known
    already is not run again.

    Args:
        kept: the folder of the sweep, which says the grid.
        steps: of a point that is never stopped.
        each: steps between two validations.
        judge: ranks the points.
        run: brings a point to a number of steps. A `UserError` of a run that has made steps is a
            failure of that point; any other exception ends the sweep.
        say: prints a line.

    Raises:
        UserError: if no point is left, or one makes no validation.
    """
    options = kept.options
    first = options.first_steps
    if first is not None and first >= steps and options.stopping != "none":
        raise UserError(
            f"{option('sweep.first_steps')}: got {first}, but a point makes {steps} steps; give "
            f"fewer, or set {option('sweep.stopping')} to none"
        )
    choices: dict[Choice, list[Point]] = {}
    for point in kept.points:
        choices.setdefault(point.choice, []).append(point)
    stops = [steps]
    if options.stopping == "halving":
        stops = budgets(len(choices), steps, options.reduction, first, each)
    say(f"{len(kept.points)} points, stops after {', '.join(map(str, stops))} steps")
    alive, stopped = dict(choices), dict[str, str]()
    for stop in stops:
        if len(alive) == 1 and stop < steps:
            continue  # nothing to choose from
        for point in [one for points in alive.values() for one in points]:
            _bring(kept, point, stop, steps, run, judge, say)
        alive = {one: some for one, some in alive.items() if not any(map(kept.failed, some))}
        if not alive:
            raise UserError(_all_failed(kept))
        if stop == steps:
            break
        ranks = {one: judge.rank(_known(kept, some, stop), "last") for one, some in alive.items()}
        go_on = survivors(ranks, options.reduction)
        for place, choice in enumerate(ordered(ranks), start=1):
            if choice in go_on:
                continue
            why = f"place {place} of {len(ranks)} after {stop} steps; the best {len(go_on)} went on"
            for point in alive[choice]:
                stopped[point.name] = why
                say(f"stopped: {point.told()}: {why}")
        alive = {choice: alive[choice] for choice in alive if choice in go_on}
    every = [_result(kept, point, stopped) for point in kept.points]
    finished = {one: judge.rank(_known(kept, some, steps), "best") for one, some in alive.items()}
    best = alive[ordered(finished)[0]][0]
    chosen = next(one for one in every if one.point.name == best.name)
    return Results(every, chosen, judge, _notes(every, chosen, judge, kept))


def _bring(
    kept: Kept, point: Point, stop: int, steps: int, run: Run, judge: Judge, say: Any
) -> None:
    """Bring a point to a number of steps, and note what is known of it then."""
    if kept.failed(point) is not None or kept.known(point, stop) is not None:
        return
    path = kept.path(point)
    summary: Mapping[str, Any] = summary_of(RunFolder(path))
    # A process that was killed after the run had ended has not noted it.
    if summary.get("status") != "finished" or summary.get("steps") != stop:
        say(f"{point.told()}: to step {stop} of {steps}")
        try:
            summary = run(point, path, stop)
        except UserError as error:
            if summary_of(RunFolder(path)).get("status") != "failed":
                raise  # it was refused before its first step
            kept.note_failure(point, str(error))
            say(f"failed: {point.told()}: {error}")
            return
    found = noted(summary)
    if found is None:
        raise UserError(
            f"sweep: the run in {str(path)!r} made no validation in {stop} steps, by which points "
            f"are compared; set {option('trainer.val_check_interval')} to at most {stop} batches "
            f"with validation rows, or {option('sweep.first_steps')} to more"
        )
    if judge.by not in found["last"]:
        raise UserError(
            f"{option('run.best_by')}: the run in {str(path)!r} has no {judge.by}, by which points "
            f"are compared; name one of its figures: {', '.join(found['last'])}"
        )
    kept.note(point, stop, found)
    say(f"{point.told()}: {judge.by.replace('_', ' ')} {_told(judge.figure(found, 'last'))}")


def _known(kept: Kept, points: list[Point], stop: int) -> list[Mapping[str, Any]]:
    found = (kept.known(point, stop) for point in points)
    return [one for one in found if one is not None]


def _result(kept: Kept, point: Point, stopped: Mapping[str, str]) -> Result:
    """A point with the last that is known of it."""
    noted_at: dict[str, Any] = kept.content["known"].get(point.name, {})
    known = noted_at[max(noted_at, key=int)] if noted_at else None
    why = kept.failed(point)
    state = "failed" if why is not None else "stopped" if point.name in stopped else "finished"
    return Result(point, kept.path(point), state, why or stopped.get(point.name, ""), known)


def _notes(every: list[Result], best: Result, judge: Judge, kept: Kept) -> list[str]:
    """A stopped point whose best validation is better than that of the best one."""
    if len(kept.points) != len({one.choice for one in kept.points}):
        return []  # means over seeds decide, which a single point does not show
    wanted = judge.rank([best.known or {}], "best")
    return [
        f"{one.point.told()} was stopped, but its best {judge.by.replace('_', ' ')} "
        f"({_told(judge.figure(one.known, 'best'))} at step {one.known['at']}) is better than "
        "that of the best point; give it all steps by a larger first_steps, or by stopping none"
        for one in every
        if one.state == "stopped" and one.known and judge.rank([one.known], "best") > wanted
    ]


def _all_failed(kept: Kept) -> str:
    reasons = dict.fromkeys(kept.content["failed"].values())
    return f"sweep: no point is left, every one has failed ({next(iter(reasons))}); see their runs"


def _told(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
