"""``zolit fit --resume``: what differs from the interrupted run, and where to go on."""

import json
import shutil
import sys
from bisect import bisect_right
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import lightning as L

from zolit.callbacks import Journal
from zolit.config_guard import load_yaml
from zolit.datamodules.epochs import ResumableLoader
from zolit.errors import UserError
from zolit.journal.checkpoints import FileCheckpoints
from zolit.journal.environment import environment
from zolit.journal.format import Header
from zolit.journal.reader import Contents
from zolit.journal.resume import read_run, resumed_checkpoint
from zolit.metrics_file import Row, read_rows
from zolit.module import ZeroOrderModule
from zolit.recorded_paths import with_absolute_paths
from zolit.run_folder import RunFolder

# Options that the journal's steps were made with: replayed with others they give other weights.
_PAST = (
    "model.adapter*",
    "model.perturber.*",
    "model.mask*",
    "model.optimizer.*",
    "model.estimator.*",
)
# Options that only the steps to come depend on.
_FUTURE = (
    "model.*",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.limit_train_batches",
    "trainer.overfit_batches",
    "trainer.precision",
    "trainer.strategy",
)
# Of them, what the steps' records hold or their values were made with.
_RATES = ("model.perturber.*eps", "model.optimizer.*lr", "model.estimator.init_args.paired")
# What these decide is compared itself: the start weights, the rows.
_COMPARED = (
    "model.source*",
    "model.quantizer*",
    "model.tune*",
    "model.start_from*",
    "model.dtype",
    "model.max_skipped",
)

Changes = dict[str, tuple[Any, Any]]
"""Value in the run and value now, by dotted key."""


class Resumption:
    """A run that ``zolit fit`` goes on with.

    Args:
        folder: of the run.
        journal: the callback that will keep the journal on.
        salvage: take the intact part of a damaged journal.

    Attributes:
        zero_shot: the run's figures before fitting, empty if they are not known.
        rows: of metrics.csv, up to the step from which the run goes on.
        steps_after: optimizer steps made after so many batches.

    Raises:
        UserError: if there is no journal, it is damaged, or another process writes it.
    """

    def __init__(self, folder: RunFolder, journal: Journal | None, salvage: bool) -> None:
        if journal is None:
            raise UserError("resume: this module keeps no journal; go on with --ckpt_path")
        journal.claim(folder.path)
        self._folder, self._journal = folder, journal
        self._contents = read_run(folder, salvage, "--run.salvage=true")
        self.zero_shot = earlier_zero_shot(folder)
        self.rows: list[Row] = []
        self.steps_after = steps_after(self._contents)

    def prepare(
        self, trainer: L.Trainer, module: ZeroOrderModule, datamodule: Any, config: str
    ) -> str | None:
        """Bring everything to the step from which the run goes on.

        Args:
            trainer: that goes on.
            module: of the run's recipe; its weights are moved.
            datamodule: set up.
            config: YAML of the command.

        Returns:
            ``ckpt_path`` for the trainer, None if the run begins at its start.

        Raises:
            UserError: if the recipe or the model is not the run's.
        """
        contents, folder = self._contents, self._folder
        header = contents.header
        if header is None:
            return None  # it ended before its first step: there is nothing to replay
        future = refuse_other_recipe(header, config, str(folder.path))
        loader = datamodule.train_dataloader()
        content = resumed_checkpoint(module, trainer, loader, contents, folder, say)
        step = header.step if content is None else int(content["global_step"])
        order = loader.order() if isinstance(loader, ResumableLoader) else {}
        for note in notes(header, module, order, future, step):
            say(note)
        if contents.fault is not None:
            kept = folder.journal.with_name(f"{folder.journal.name}.damaged")
            shutil.copyfile(folder.journal, kept)
            say(f"the damaged journal is kept as {kept}")
        self.rows = earlier_rows(folder, contents, step)
        self._journal.take_up(contents, step, {key: list(pair) for key, pair in future.items()})
        say(f"going on after step {step} of {contents.end} in the journal")
        if content is None:
            return header.checkpoint or None
        io = FileCheckpoints()
        io.hold(str(folder.journal), content)
        trainer.strategy.checkpoint_io = io
        return str(folder.journal)


def say(sentence: str) -> None:
    """A line for the user, beside the results."""
    print(f"zolit: {sentence}", file=sys.stderr, flush=True)


def changes(before: str, now: str) -> tuple[Changes, Changes]:
    """Options that two configurations set otherwise.

    Args:
        before: YAML of the run.
        now: YAML of the command.

    Returns:
        Those that the steps made so far depend on, and those that only later steps depend on.
    """
    old = _flat(with_absolute_paths(load_yaml(before, "journal: the run's configuration")))
    new = _flat(with_absolute_paths(load_yaml(now, "--config")))
    past: Changes = {}
    future: Changes = {}
    for key in sorted(old.keys() | new.keys()):
        pair = (old.get(key), new.get(key))
        if pair[0] == pair[1] or _matches(key, _COMPARED):
            continue
        if _matches(key, _PAST) and not _matches(key, _RATES):
            past[key] = pair
        elif _matches(key, _FUTURE):
            future[key] = pair
    return past, future


def _matches(key: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict) or not content:
        return {prefix: content}
    found: dict[str, Any] = {}
    for name, value in content.items():
        found.update(_flat(value, f"{prefix}.{name}" if prefix else str(name)))
    return found


def told(differences: Changes) -> str:
    """``name old -> new`` of each, for a sentence."""
    return ", ".join(f"{key} {old} -> {new}" for key, (old, new) in differences.items())


def refuse_other_recipe(header: Header, config: str, run: str) -> Changes:
    """What differs in options that only later steps depend on.

    Raises:
        UserError: if an option differs that the steps made so far depend on.
    """
    if not header.config:
        return {}
    past, future = changes(header.config, config)
    if past:
        raise UserError(
            f"resume: the steps of {run} were made with another recipe ({told(past)}); use "
            f"--config {run}/config.yaml"
        )
    return future


def notes(
    header: Header, module: ZeroOrderModule, order: dict[str, Any], future: Changes, step: int
) -> list[str]:
    """Sentences on what makes the run go on otherwise than it would have.

    Args:
        header: of the journal.
        module: that goes on.
        order: of the training loader, empty if it is not known.
        future: from `refuse_other_recipe`.
        step: after which the run goes on.
    """
    found = []
    if future:
        found.append(f"steps after {step} follow other options than the run so far: {told(future)}")
    rows = _differences(header.data, order)
    if rows:
        found.append(f"steps after {step} read other batches than the run would: {told(rows)}")
    elif not order:
        found.append("the data module's loader keeps no position: the epoch begins anew")
    around = _differences(header.environment, environment(module))
    if around:
        found.append(
            f"the run was begun elsewhere ({told(around)}); losses can differ in their last bits"
        )
    return found


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Changes:
    names = sorted(before.keys() | now.keys())
    pairs = {name: (before.get(name), now.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def earlier_rows(folder: RunFolder, contents: Contents, step: int) -> list[Row]:
    """Rows of metrics.csv up to a step."""
    batches = [one.position.batches for one in contents.steps if one.step < step]
    return read_rows(folder.metrics, batches[-1] if batches else 0)


def steps_after(contents: Contents) -> Callable[[int], int]:
    """How many optimizer steps a number of batches makes."""
    first = contents.end - len(contents.steps)
    batches = [one.position.batches for one in contents.steps]
    return lambda count: first + bisect_right(batches, count)


def earlier_zero_shot(folder: RunFolder) -> dict[str, float]:
    """The zero-shot figures of a run's summary; empty if there is none."""
    try:
        found = json.loads(folder.summary.read_text(encoding="utf-8"))["zero_shot"]
        return {str(name): float(value) for name, value in (found or {}).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def resume_command(folder: Path) -> str:
    """What goes on with the run in a folder."""
    return f"zolit fit --config {folder / 'config.yaml'} --resume {folder}"
