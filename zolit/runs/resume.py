"""Resumes an interrupted run: compares options, and brings the weights to the last step."""

import shutil
from bisect import bisect_right
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import lightning as L

from zolit.caller import by_caller, option
from zolit.checkpoints.file import FileCheckpoints
from zolit.datamodules.epochs import ResumableLoader
from zolit.errors import UserError, tell
from zolit.recipes.flat import flatten
from zolit.recipes.guard import load_yaml
from zolit.runs.differences import (
    Changes,
    Differences,
    changed_since,
    describe_changes,
    find_differences,
    refuse_other_recipe,
)
from zolit.runs.folder import RunFolder, summary_of
from zolit.runs.journal.environment import environment
from zolit.runs.journal.reader import Contents, read_journal
from zolit.runs.journal.records import Header, Weights
from zolit.runs.keeping import KeepsJournal
from zolit.runs.metrics_file import Row, read_rows
from zolit.runs.rebuild import read_run, resumed_checkpoint
from zolit.training.zero_order import ZeroOrderModule


class Resumption:
    """An interrupted run that is resumed.

    Args:
        folder: of the run.
        journal: the callback that will continue the journal.
        salvage: take the intact part of a damaged journal.

    Attributes:
        zero_shot: the run's figures before fitting, empty if they are not known.
        rows: of metrics.csv, up to the step from which the run continues.
        steps_after: maps a number of batches to the number of optimizer steps made by then.

    Raises:
        UserError: if there is no journal, it is damaged, or another process writes it.
    """

    def __init__(self, folder: RunFolder, journal: KeepsJournal | None, salvage: bool) -> None:
        if journal is None:
            instead = by_caller("--ckpt_path", "ckpt_path in the fit of a Lightning Trainer")
            raise UserError(f"resume: this module keeps no journal; go on with {instead}")
        journal.claim(folder.path)
        self._folder, self._journal = folder, journal
        self._contents = read_run(
            folder,
            salvage,
            by_caller("--run.salvage=true", "options=zolit.RunOptions(salvage=True)"),
        )
        self.zero_shot = earlier_zero_shot(folder)
        self.rows: list[Row] = []
        self.steps_after = steps_after(self._contents)

    def prepare(
        self,
        trainer: L.Trainer,
        module: Any,
        datamodule: Any,
        config: str,
        asked: Collection[str],
    ) -> str | None:
        """Bring everything to the step from which the run continues.

        Args:
            trainer: that will continue.
            module: of the run's recipe; its weights are moved.
            datamodule: set up.
            config: YAML of the command.
            asked: options of the command line, by their names.

        Returns:
            ``ckpt_path`` for the trainer, None if the run begins at its start.

        Raises:
            UserError: if the recipe or the model is not the run's.
        """
        contents, folder = self._contents, self._folder
        header = contents.header
        if header is None:
            return None  # it ended before its first step: there is nothing to replay
        refuse_fewer_steps(trainer.max_steps, contents.end, folder)
        loader = datamodule.train_dataloader()
        order = order_of(loader)
        other_rows = bool(changed_facts(header.data, order))
        changed = self._differences(header, config, type(module))
        future = refuse_other_recipe(header.config, changed, asked, other_rows, str(folder.path))
        content = resumed_checkpoint(module, trainer, loader, contents, folder, tell)
        step = header.step if content is None else int(content["global_step"])
        for note in resumption_notes(header, module, order, future, step):
            tell(note)
        if contents.fault is not None:
            kept = folder.journal.with_name(f"{folder.journal.name}.damaged")
            shutil.copyfile(folder.journal, kept)
            tell(f"the damaged journal is kept as {kept}")
        self.rows = earlier_rows(folder, contents, step)
        self._journal.take_up(contents, step, {key: list(pair) for key, pair in future.items()})
        tell(f"going on after step {step} of {contents.end} in the journal")
        if content is None:
            return header.checkpoint or None
        return hold(trainer, folder.journal, content)

    def _differences(self, header: Header, config: str, module: type) -> Differences:
        if not (header.config and config):  # one of them was made from Python
            return Differences()
        since = changed_since(self._contents.records)
        return find_differences(header.config, config, since, module)


def nothing_to_do(folder: RunFolder, config: str) -> str | None:
    """A sentence if the run is finished and the command asks for no more steps; None otherwise.

    Args:
        folder: of the run.
        config: YAML of the command.
    """
    contents = read_journal(folder.journal)
    header, marks = contents.header, [one for one in contents.records if isinstance(one, Weights)]
    ended = bool(marks) and marks[-1].final and marks[-1].step == contents.end
    if header is None or not (header.config and config):
        return None
    if not ended or contents.fault is not None:
        return None
    summary = summary_of(folder)
    tests = flatten(load_yaml(config, "--config")).get("run.test_after_fit", True)
    if summary.get("status") != "finished" or (tests and not summary.get("final")):
        return None
    try:
        latest = folder.config.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    found = find_differences(latest, config)
    if found != Differences():
        return None
    steps = flatten(load_yaml(config, "--config")).get("trainer.max_steps")
    more = f"max_steps {2 * contents.end}" if steps not in (None, -1) else "max_epochs N"
    return (
        f"{folder.path}: finished after {contents.end} steps, nothing to do; for more steps: "
        f"zolit fit --resume {folder.path} --trainer.{more}"
    )


def refuse_fewer_steps(wanted: int, made: int, folder: RunFolder) -> None:
    """Refuse to go on with a run to a step that lies behind it.

    Args:
        wanted: ``max_steps`` of the trainer, -1 for no limit.
        made: steps that the run has made.
        folder: of the run.

    Raises:
        UserError: naming both numbers.
    """
    if 0 <= wanted < made:
        earlier = by_caller(f"zolit replay {folder.path} --until {wanted}", "zolit.replay")
        raise UserError(
            f"{option('trainer.max_steps')}: got {wanted}, but {folder.path} has made {made} "
            f"steps; give at least {made}, or get the weights after step {wanted} by {earlier}"
        )


def order_of(loader: Any) -> dict[str, Any]:
    """The order of a training loader, empty if it keeps none."""
    return loader.order() if isinstance(loader, ResumableLoader) else {}


def hold(trainer: L.Trainer, file: Path, content: dict[str, Any]) -> str:
    """Let the trainer take a checkpoint from memory where it asks for a file; the file's path."""
    io = FileCheckpoints()
    io.hold(str(file), content)
    trainer.strategy.checkpoint_io = io
    return str(file)


def continuing_notes(future: Changes, rows: Changes, placed: bool, step: int) -> list[str]:
    """Sentences about what the steps to come do otherwise than the run so far.

    Args:
        future: options that the user changes.
        rows: facts about the training rows that are not the same.
        placed: whether the training loader keeps its position.
        step: after which the run continues.
    """
    found = []
    if future:
        changes = describe_changes(future)
        found.append(f"steps after {step} follow other options than the run so far: {changes}")
    if rows:
        changes = describe_changes(rows)
        found.append(f"steps after {step} read other batches than the run would: {changes}")
    elif not placed:
        found.append("the data module's loader keeps no position: the epoch begins anew")
    return found


def resumption_notes(
    header: Header, module: ZeroOrderModule, order: dict[str, Any], future: Changes, step: int
) -> list[str]:
    """Sentences about everything that makes the resumed run differ from the interrupted one.

    Args:
        header: of the journal.
        module: that will continue.
        order: of the training loader, empty if it is not known.
        future: options that the user changes, from `refuse_other_recipe`.
        step: after which the run continues.
    """
    found = continuing_notes(future, changed_facts(header.data, order), bool(order), step)
    around = changed_facts(header.environment, environment(module.device, module.reading.compiled))
    if around:
        found.append(
            f"the run was begun elsewhere ({describe_changes(around)}); losses can differ in their "
            "last bits"
        )
    return found


def changed_facts(before: dict[str, Any], now: dict[str, Any]) -> Changes:
    """The facts that are not the same, with both values; None for one that is not there."""
    names = sorted(before.keys() | now.keys())
    pairs = {name: (before.get(name), now.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def earlier_rows(folder: RunFolder, contents: Contents, step: int) -> list[Row]:
    """Rows of metrics.csv up to a step."""
    batches = [one.position.batches for one in contents.steps if one.step < step]
    return read_rows(folder.metrics, batches[-1] if batches else 0)


def steps_after(contents: Contents) -> Callable[[int], int]:
    """A function from a number of batches to the number of optimizer steps made by then."""
    first = contents.end - len(contents.steps)
    batches = [one.position.batches for one in contents.steps]
    return lambda count: first + bisect_right(batches, count)


def earlier_zero_shot(folder: RunFolder) -> dict[str, float]:
    """The zero-shot figures of a run's summary; empty if there is none."""
    found = summary_of(folder).get("zero_shot")
    try:
        return {str(name): float(value) for name, value in (found or {}).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def resume_command(folder: Path, recipe: bool) -> str:
    """The command or Python call that resumes the run in a folder.

    Args:
        folder: of the run.
        recipe: whether it has one; a run that was made from Python has none.
    """
    if recipe:
        return f"zolit fit --resume {folder}"
    return f"zolit.fit(module, data, {str(folder)!r}, resume=True)"
