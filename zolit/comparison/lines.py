"""Runs that differ only by seed, as one line."""

import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zolit.comparison.figure import Figure
from zolit.comparison.record import Record, is_seed
from zolit.comparison.rows import plain
from zolit.recipes.flat import public_name

_PLACES = ("run.", "resume", "trainer.default_root_dir", "trainer.logger", "trainer.enable_")
"""Options that say where a run is kept and what is printed, not what it does."""
_CHOOSES = ("run.best_by",)
_MODULE = "model.class_path"
"""Recipes of zeroth-order runs leave it out."""


@dataclass(frozen=True)
class Reached:
    """When the runs of a line first had a figure of validation.

    Attributes:
        seconds: wall-clock of each run that reached it and whose times are known.
        runs: how many reached it.
    """

    seconds: list[float]
    runs: int


@dataclass(frozen=True)
class Line:
    """The runs of a recipe.

    Attributes:
        name: of the recipe.
        records: its runs, whatever became of them.
    """

    name: str
    records: list[Record]

    @property
    def finished(self) -> list[Record]:
        """The runs that made all their steps: figures and costs are theirs."""
        return [one for one in self.records if one.finished]

    def values(self, figure: Figure) -> list[float]:
        """The figure of each finished run that has it."""
        found = (figure.of(one) for one in self.finished)
        return [one for one in found if one is not None and math.isfinite(one)]

    def numbers(self, *names: str) -> list[float]:
        """A number of summary.json of each finished run that has it."""
        found = (one.number(*names) for one in self.finished)
        return [one for one in found if one is not None]

    def checkpoints(self) -> list[float]:
        """Bytes of the best checkpoint of each finished run that keeps one."""
        found = (one.checkpoint_bytes for one in self.finished)
        return [float(one) for one in found if one is not None]

    def reached(self, figure: Figure, wanted: float) -> Reached:
        """When the validations of the finished runs first were as good as a wanted value."""
        key, seconds, runs = f"val_{figure.name}", [], 0
        for record in self.finished:
            good = (p for p in record.curve if key in p.figures)
            first = next((p for p in good if figure.reaches(p.figures[key], wanted)), None)
            if first is not None:
                runs += 1
                seconds += [] if first.seconds is None else [first.seconds]
        return Reached(seconds, runs)


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean, and standard deviation of the sample (divisor n - 1), None of a single value.

    Example:
        >>> mean_and_spread([1.0, 3.0])
        (2.0, 1.4142135623730951)
    """
    spread = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), spread


def lines_of(records: Sequence[Record]) -> list[Line]:
    """A line for each recipe, in the order of the runs; seeds and places of runs do not count."""
    groups: dict[Any, list[Record]] = {}
    for one in records:
        groups.setdefault(_recipe_key(one), []).append(one)
    names = _names([[one.path for one in group] for group in groups.values()])
    return [Line(name, group) for name, group in zip(names, groups.values(), strict=True)]


def settings(record: Record) -> dict[str, Any]:
    """The options that decide what a run does, by dotted key, without its seeds."""
    if record.recipe is None:
        return {}
    recipe = {_MODULE: "ZeroOrderModule", **record.recipe}
    return {
        key: plain(value)
        for key, value in recipe.items()
        if not is_seed(key) and (key in _CHOOSES or not key.startswith(_PLACES))
    }


def differences(line: Line, others: Iterable[Line]) -> dict[str, str]:
    """The options in which a recipe differs from any of several, as the command line names them.

    Args:
        line: of the recipe.
        others: lines of the others.

    Returns:
        Its values by name; without options that it leaves open.
    """
    own = settings(line.records[0])
    found = {}
    for other in others:
        theirs: Mapping[str, Any] = settings(other.records[0])
        for key in {**own, **theirs}:
            if own.get(key) != theirs.get(key) and own.get(key) is not None:
                found[key if key == _MODULE else public_name(key)] = str(own[key])
    return dict(sorted(found.items()))


def _recipe_key(record: Record) -> Any:
    if record.recipe is None:
        return str(record.path)  # nothing says that two of them are alike
    found = settings(record).items()
    return tuple(sorted((key, repr(value)) for key, value in found if value is not None))


def _names(groups: Sequence[Sequence[Path]]) -> list[str]:
    """A name for each group of folders: what their names begin with, made unique."""
    found = [_common(group) for group in groups]
    for place, name in enumerate(found):
        if found.count(name) > 1 or not name:
            found[place] = str(groups[place][0])
    return found


def _common(paths: Sequence[Path]) -> str:
    names = [path.resolve().name for path in paths]
    if len(paths) == 1:
        return names[0]
    shared = names[0]
    while not all(name.startswith(shared) for name in names):
        shared = shared[:-1]
    shared = re.sub(r"[-_. ]*(?:seed|s)?[-_.=]*$", "", shared)
    parents = {path.resolve().parent.name for path in paths}
    return shared or (parents.pop() if len(parents) == 1 else "")
