"""Reads runs and compares them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zolit.caller import by_caller
from zolit.comparison.figure import Figure, choose_figure
from zolit.comparison.lines import Line, differences, lines_of
from zolit.comparison.record import Record, read_record
from zolit.comparison.rows import check_rows
from zolit.comparison.table import Row, csv_text, markdown, row
from zolit.errors import UserError
from zolit.extras import require_extra
from zolit.runs.found import runs_below

_LISTED = 6
"""Most options in which a recipe is said to differ."""


@dataclass(frozen=True)
class Comparison:
    """Runs side by side, a line for each recipe.

    Attributes:
        lines: of the recipes, in the order of the runs.
        figure: that they are compared by.
        reach: value of the figure of validation whose time is asked for; None for none.
        notes: sentences on what the table does not show: runs that are not finished, and whatever
            makes figures less comparable.

    Example:
        >>> print(compare(["runs/qzo", "runs/quzo"]).markdown())  # doctest: +SKIP
    """

    lines: list[Line]
    figure: Figure
    reach: float | None = None
    notes: list[str] = field(default_factory=list)

    def rows(self) -> list[Row]:
        """The table as numbers, by the names of the columns of the CSV."""
        return [row(line, self.figure, self.reach) for line in self.lines]

    def csv(self) -> str:
        """The table as CSV, with a head."""
        return csv_text(self.rows())

    def markdown(self) -> str:
        """The table in Markdown, what the recipes differ in, and the notes."""
        parts = [markdown(self.rows(), self.figure)]
        if len(self.lines) > 1:
            told = [_told(line, self.lines) for line in self.lines]
            parts.append("\n".join(one for one in told if one))
        parts.append("\n".join(f"- {note}" for note in self.notes))
        return "\n\n".join(part for part in parts if part) + "\n"

    def draw(self, path: str | Path) -> None:
        """Write the picture as PNG: the figure against time, passes and memory.

        Raises:
            UserError: if matplotlib is not installed.
        """
        require_extra("plots", by_caller("--png", "draw"))
        from zolit.comparison.picture import draw

        draw(Path(path), self.lines, self.figure)


def compare(
    runs: Sequence[str | Path] | Mapping[str, Sequence[str | Path]],
    metric: str | None = None,
    reach: float | None = None,
) -> Comparison:
    """Compare runs by their folders; nothing is loaded, and no model is needed.

    Args:
        runs: folders of runs, or of several runs below. Runs that differ only by seed are one line.
            A mapping names the lines itself.
        metric: the figure, such as ``test_accuracy`` or ``accuracy``; by default the one that the
            runs are judged by, of the test where there is one.
        reach: a value of the figure of validation, to tell when each recipe reached it.

    Raises:
        UserError: if there is no run, the runs are on different rows, or do not have the figure.

    Example:
        >>> table = compare(["runs/seeds"], reach=0.75)  # doctest: +SKIP
    """
    if isinstance(runs, Mapping):
        lines = [Line(name, list(_records(some))) for name, some in runs.items()]
    else:
        lines = lines_of(list(_records(runs)))
    records = [one for line in lines for one in line.records]
    if not records:
        raise UserError(
            f"{by_caller('compare', 'runs')}: got no run of zolit fit; name the folders that "
            f"{by_caller('--run.run_dir', 'run_dir')} named, or one with runs below"
        )
    figure = choose_figure(records, metric)
    notes = check_rows(records, figure.stage)
    return Comparison(lines, figure, reach, [*notes, *_notes(lines, figure, reach)])


def _records(runs: Sequence[str | Path]) -> Iterator[Record]:
    seen = set()
    for folder in runs:
        for path in runs_below(Path(folder), "compare"):
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield read_record(path)


def _told(line: Line, lines: Sequence[Line]) -> str:
    found = differences(line, lines)
    if not found:
        return ""
    shown = [f"{name} {value}" for name, value in list(found.items())[:_LISTED]]
    rest = len(found) - len(shown)
    return f"- {line.name}: {', '.join(shown)}{f' and {rest} more' if rest else ''}"


def _notes(lines: Sequence[Line], figure: Figure, reach: float | None) -> list[str]:
    """What a reader has to know beside the table."""
    records = [one for line in lines for one in line.records]
    notes = [_unfinished(one) for one in records if not one.finished]
    bare = [str(one.path) for one in records if one.finished and figure.of(one) is None]
    if bare:
        notes.append(f"finished, but without {figure.key}: {', '.join(bare)}")
    done = [line for line in lines if line.finished]
    seeds = {line.name: " ".join(sorted(str(one.seed) for one in line.finished)) for line in done}
    if len({*seeds.values()}) > 1:
        told = ", ".join(f"{name}: {some}" for name, some in seeds.items())
        notes.append(f"the recipes were run with different seeds ({told})")
    kinds = {str(one.summary.get("memory")): one for one in records if one.summary.get("memory")}
    if len(kinds) > 1:
        told = ", ".join(f"{kind} in {one.path}" for kind, one in kinds.items())
        notes.append(f"peak memory is not of one kind: {told}")
    if figure.guessed:
        better = "larger" if figure.larger_is_better else "smaller"
        notes.append(
            f"no run says whether {figure.name} is to be large; {better} is taken as better"
        )
    old = [str(one.path) for one in records if one.steps_alone]
    if old:
        notes.append(
            "made by a zolit that did not note the time of validations, so that times to a figure "
            f"are those of the steps alone: {', '.join(old)}"
        )
    if reach is not None and not any(
        f"val_{figure.name}" in p.figures for one in records for p in one.curve
    ):
        notes.append(f"no run has validations of {figure.name}, by which a time could be told")
    return notes


def _unfinished(record: Record) -> str:
    go_on = "" if record.state == "running" else f"; go on with: zolit fit --resume {record.path}"
    state = f"{record.state} after {record.steps} steps"
    return f"{record.path} is not finished ({state}) and does not count{go_on}"
