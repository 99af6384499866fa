"""What came of a sweep, as a table."""

from zolit.comparison.table import aligned
from zolit.sweeps.sweep import Result, Results


def markdown(found: Results) -> str:
    """A line for each point, the chosen one marked, and the notes.

    Args:
        found: what came of the sweep.
    """
    keys = list(found.every[0].point.values)
    columns = [[key, *(str(one.point.values[key]) for one in found.every)] for key in keys]
    by = found.judge.by.replace("_", " ")
    columns += [
        [f"{by}, last", *(_figure(one, found, "last") for one in found.every)],
        [f"{by}, best", *(_figure(one, found, "best") for one in found.every)],
        ["at step", *(_of(one, "at") for one in found.every)],
        ["steps", *(_of(one, "steps") for one in found.every)],
        ["s", *(_of(one, "seconds") for one in found.every)],
        ["", *(_state(one, found) for one in found.every)],
    ]
    notes = "\n".join(f"- {note}" for note in found.notes)
    return "\n\n".join(part for part in (aligned(columns), notes) if part) + "\n"


def _figure(one: Result, found: Results, when: str) -> str:
    if one.known is None:
        return "-"
    value = found.judge.figure(one.known, "last" if when == "last" else "best")
    return "not finite" if value is None else f"{value:.4g}"


def _of(one: Result, name: str) -> str:
    value = None if one.known is None else one.known.get(name)
    return "-" if value is None else f"{value:.0f}"


def _state(one: Result, found: Results) -> str:
    if one is found.best:
        return "the best"
    return f"{one.state}: {one.why}" if one.why else one.state
