"""Which figure runs are compared by."""

from collections.abc import Sequence
from dataclasses import dataclass

from zolit.caller import by_caller
from zolit.comparison.record import Record
from zolit.errors import UserError, nearest

STAGES = ("test", "val")
_SMALL = ("loss", "perplexity")
"""Figures that are better when they are smaller, of runs that do not say so themselves."""


@dataclass(frozen=True)
class Figure:
    """A figure of runs.

    Attributes:
        name: without its stage, such as ``accuracy``.
        stage: ``test`` or ``val``.
        larger_is_better: its direction.
        guessed: whether the direction follows from the name alone, as of runs of an older zolit.
    """

    name: str
    stage: str
    larger_is_better: bool
    guessed: bool = False

    @property
    def key(self) -> str:
        """Its name with its stage."""
        return f"{self.stage}_{self.name}"

    def of(self, record: Record) -> float | None:
        """Of the best checkpoint of a finished run; None if it has none.

        A figure of validation is that of the validation that chose the checkpoint.
        """
        if not record.finished:
            return None
        found = record.number("final" if self.stage == "test" else "best", self.key)
        if found is None and self.stage == "val" and record.summary.get("best") is None:
            return record.number("validation", self.key)  # no checkpoint was chosen: of the last
        return found

    def untuned(self, record: Record) -> float | None:
        """Of the model before tuning; None if it was not measured on these rows."""
        return record.number("zero_shot", self.key)

    def reaches(self, value: float, wanted: float) -> bool:
        """Whether a value is as good as a wanted one."""
        return value >= wanted if self.larger_is_better else value <= wanted


def choose_figure(records: Sequence[Record], metric: str | None) -> Figure:
    """The figure that is asked for, or the one that the runs are judged by.

    Args:
        records: of the runs.
        metric: name of a figure, with its stage or without; without one the figure of the test is
            taken if a run has it, else that of the validation.

    Raises:
        UserError: if no run has it, or the runs do not agree about it.
    """
    known = {key: None for one in records for key in _keys(one)}
    if not known:
        raise UserError(
            f"{by_caller('compare', 'runs')}: no run of {_told(records)} has figures yet; wait "
            "until one has made a validation or a test"
        )
    name = metric or _primary(records, known)
    stage, _, plain = name.partition("_")
    if stage in STAGES and name in known:
        name = plain
    else:
        stage = next((one for one in STAGES if f"{one}_{name}" in known), "")
    if not stage:
        raise UserError(
            f"{by_caller('--metric', 'metric')}: got {metric!r}, which is no figure of these runs; "
            f"nearest: {nearest(name, known)}"
        )
    modes = {_mode(one, name) for one in records} - {None}
    if len(modes) > 1:
        raise UserError(
            f"{by_caller('--metric', 'metric')}: {name} is to be small in some of the runs and "
            "large in others; compare them apart"
        )
    guess = "min" if name.endswith(_SMALL) else "max"
    mode = modes.pop() if modes else guess
    return Figure(name, stage, mode == "max", guessed=not any(_mode(one, name) for one in records))


def _keys(record: Record) -> list[str]:
    """Names of all figures of a run, with their stage."""
    groups = [record.summary.get(name) for name in ("final", "best", "validation")]
    groups += [dict(point.figures) for point in record.curve[:1]]
    names = [name for group in groups if isinstance(group, dict) for name in group]
    return [name for name in names if name.startswith(("test_", "val_")) and "/" not in name]


def _primary(records: Sequence[Record], known: dict[str, None]) -> str:
    said = {
        judged["primary"]: one
        for one in records
        if isinstance(judged := one.summary.get("judged"), dict) and judged.get("primary")
    }
    if len(said) > 1:
        told = ", ".join(f"{str(one.path)!r} by {name}" for name, one in said.items())
        raise UserError(
            f"{by_caller('compare', 'runs')}: the runs are judged by different figures ({told}); "
            f"name one that all have by {by_caller('--metric', 'metric')}, or compare them apart"
        )
    plain = [key.partition("_")[2] for key in known]
    return str(next(iter(said), None) or next((one for one in plain if one != "loss"), plain[0]))


def _mode(record: Record, name: str) -> str | None:
    judged = record.summary.get("judged")
    modes = judged.get("modes") if isinstance(judged, dict) else None
    return modes.get(name) if isinstance(modes, dict) else None


def _told(records: Sequence[Record]) -> str:
    return ", ".join(str(one.path) for one in records)
