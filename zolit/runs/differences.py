"""Compares the options of a resumed run with those that it was made with."""

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pkgutil import resolve_name
from typing import Any

from zolit.errors import UserError
from zolit.options import OnResume, on_resume
from zolit.recipes.flat import flatten, public_name
from zolit.recipes.guard import load_yaml
from zolit.runs.journal.records import Record, Session
from zolit.training.zero_order import ZeroOrderModule

_FUTURE = (
    "trainer.accelerator",
    "trainer.devices",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
    "trainer.precision",
    "trainer.strategy",
)
"""Options of Lightning's Trainer that only the steps to come depend on."""
_MORE = ("trainer.max_", "trainer.min_")
_ROWS = "data."

Changes = dict[str, tuple[Any, Any]]
"""Value in the run and value now, by dotted key."""


@dataclass(frozen=True)
class Differences:
    """Options to which a command gives other values than the run.

    Attributes:
        past: options that the steps made so far depend on.
        future: options that only later steps depend on.
        rows: options that may decide which rows later steps read.
        more: options that decide how many steps there are.
        others: options of the module whose effect is compared instead of their value.
    """

    past: Changes = field(default_factory=dict)
    future: Changes = field(default_factory=dict)
    rows: Changes = field(default_factory=dict)
    more: Changes = field(default_factory=dict)
    others: Changes = field(default_factory=dict)


def find_differences(
    before: str,
    now: str,
    since: Mapping[str, Any] | None = None,
    module: type = ZeroOrderModule,
) -> Differences:
    """Find the options that have different values in two configurations.

    Args:
        before: YAML of the run.
        now: YAML of the command.
        since: options that were changed in the run since then, by dotted key.
        module: the class whose arguments form the group ``model``.

    Raises:
        UserError: if one of them is no configuration.
    """
    old = flatten(load_yaml(before, "journal: the run's configuration")) | dict(since or {})
    new = flatten(load_yaml(now, "--config"))
    found = Differences()
    for key in sorted(old.keys() | new.keys()):
        pair = (old.get(key), new.get(key))
        if pair[0] == pair[1] or _same_class(*pair):
            continue
        if key.startswith("model."):
            of_kind = {
                OnResume.REPLAYED: found.past,
                OnResume.FREE: found.future,
                OnResume.COMPARED: found.others,
            }
            kind = declared_on_resume(key, new, module)
            if kind is not OnResume.REPORTED:
                of_kind[kind][key] = pair
        elif key in _FUTURE:
            found.future[key] = pair
        elif key.startswith(_ROWS):
            found.rows[key] = pair
        elif key.startswith(_MORE):
            found.more[key] = pair
    return found


def declared_on_resume(key: str, config: Mapping[str, Any], module: type) -> OnResume:
    """The declaration of the module or of one of its parts for an option (`OnResume`).

    If an argument of the module is declared free or compared, so are all options below it. If it is
    replayed, the class of the part decides about its own options.

    Args:
        key: dotted, in the group ``model``.
        config: values by dotted key, as parsed: they name the classes of the parts.
        module: the class whose arguments form the group.
    """
    cls: type | None = module
    path = "model"
    for name in key.split(".")[1:]:
        path = f"{path}.{name}"
        if name == "init_args":
            continue
        if (found := on_resume(cls, name)) is not OnResume.REPLAYED:
            return found
        cls = _class(config.get(f"{path}.class_path"))
    return OnResume.REPLAYED


def _class(path: Any) -> type | None:
    """The class of an import path, if it is one that the parser has imported."""
    module, _, name = str(path).rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def changed_since(records: Iterable[Record]) -> dict[str, Any]:
    """Options that were changed when the run was resumed, by dotted key, with their last values."""
    found: dict[str, Any] = {}
    for session in records:
        if isinstance(session, Session):
            found.update({key: new for key, (_, new) in _of(session).items()})
    return found


def changes_by_step(records: Iterable[Record]) -> list[tuple[int, Changes]]:
    """The options that were changed when the run was resumed, with the step after which."""
    sessions = (one for one in records if isinstance(one, Session))
    return [(one.step, found) for one in sessions if (found := _of(one))]


def _of(session: Session) -> Changes:
    found = session.facts.get("changes")
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: (pair[0], pair[1]) for key, pair in pairs if len(pair) == 2}


def refuse_other_recipe(
    before: str, now: Differences, asked: Collection[str], other_rows: bool, run: str
) -> Changes:
    """The changes of options that the user asked for; any other difference is refused.

    Args:
        before: YAML of the run; empty for a run that was made from Python.
        now: the differences between the command and the run.
        asked: options of the command line.
        other_rows: whether the rows of the steps to come are not those of the run.
        run: its folder.

    Raises:
        UserError: if an option differs that the steps made so far depend on, or one that the user
            has not asked for by name.
    """
    if not before:
        return {}
    if now.past:
        raise UserError(
            f"resume: the steps of {run} were made with another recipe ("
            f"{describe_changes(now.past)}); use --config {run}/config.yaml"
        )
    changes = now.future | (now.rows if other_rows else {})
    wanted = {public_name(key) for key in asked}
    unasked = {key: pair for key, pair in changes.items() if not _named(key, wanted)}
    if unasked:
        options = (f"--{public_name(key)} {_written(new)}" for key, (_, new) in unasked.items())
        raise UserError(
            f"resume: the configuration differs from that of {run} ("
            f"{describe_changes(unasked)}); leave out --config to go on as the run was, or ask for "
            f"the change by name: {' '.join(options)}"
        )
    return changes


def describe_changes(changes: Changes) -> str:
    """``name old -> new`` of each, for a sentence."""
    return ", ".join(f"{key} {old} -> {new}" for key, (old, new) in changes.items())


def _same_class(old: Any, new: Any) -> bool:
    """Whether two paths name the same class of zolit: it was moved, or has a shorter path now."""
    names = (old, new)
    if not all(isinstance(name, str) and name.startswith("zolit.") for name in names):
        return False
    try:
        first, second = (resolve_name(name) for name in names)
    except (ImportError, AttributeError, ValueError):
        return False
    return first is second


def _named(key: str, wanted: Collection[str]) -> bool:
    """Whether an option of the command line names a key, or the part that it belongs to."""
    return any(f"{public_name(key)}.".startswith(f"{name}.") for name in wanted)


def _written(value: Any) -> str:
    return "null" if value is None else str(value)
