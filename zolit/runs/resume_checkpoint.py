"""Resumes an interrupted run that has no journal, from its last checkpoint."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import lightning as L

from zolit.checkpoints.file import read_checkpoint
from zolit.errors import UserError, tell
from zolit.runs.differences import Differences, find_differences, refuse_other_recipe
from zolit.runs.finished import recipe_text
from zolit.runs.folder import RunFolder, summary_of
from zolit.runs.metrics_file import Row, read_rows
from zolit.runs.resume import (
    changed_facts,
    continuing_notes,
    earlier_zero_shot,
    hold,
    order_of,
    refuse_fewer_steps,
)
from zolit.training.module import TuningModule
from zolit.training.zero_order import ZeroOrderModule


def resumes_by_checkpoint(module: L.LightningModule) -> bool:
    """Whether a run of a module goes on from its last checkpoint, as its steps have no journal."""
    return isinstance(module, TuningModule) and not isinstance(module, ZeroOrderModule)


class CheckpointResumption:
    """An interrupted run that is resumed from its newest checkpoint that can be read.

    Steps after that checkpoint are made again, and come out the same bit for bit on the same
    machine: the checkpoint holds the weights, the state of the optimizer and of the schedule, and
    the place in the data.

    Args:
        folder: of the run; it is locked.

    Attributes:
        zero_shot: the run's figures before fitting, empty if they are not known.
        rows: of metrics.csv, up to the step from which the run continues.
        steps_after: maps a number of batches to the number of optimizer steps made by then.

    Raises:
        UserError: if another process writes to the folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        folder.take_up()
        self._folder = folder
        self.zero_shot = earlier_zero_shot(folder)
        self.rows: list[Row] = []
        self.steps_after: Callable[[int], int] = lambda count: count

    def prepare(
        self,
        trainer: L.Trainer,
        module: Any,
        datamodule: Any,
        config: str,
        asked: Collection[str],
    ) -> str | None:
        """Find the checkpoint from which the run continues.

        Args:
            trainer: that will continue.
            module: of the run's recipe.
            datamodule: set up.
            config: YAML of the command.
            asked: options of the command line, by their names.

        Returns:
            ``ckpt_path`` for the trainer, None if the run begins at its start.

        Raises:
            UserError: if the recipe is not the run's.
        """
        folder = self._folder
        before = recipe_text(folder)
        content, file = _newest(folder)
        loader = datamodule.train_dataloader()
        order = order_of(loader)
        rows = {} if content is None else changed_facts(content.get("zolit_rows", {}), order)
        both = before and config
        changed = find_differences(before, config, None, type(module)) if both else Differences()
        future = refuse_other_recipe(before, changed, asked, bool(rows), str(folder.path))
        if content is None or file is None:
            tell("there is no checkpoint yet: the run begins at its start")
            return None
        step = int(content["global_step"])
        refuse_fewer_steps(trainer.max_steps, step, folder)
        for note in continuing_notes(future, rows, bool(order), step):
            tell(note)
        self.rows = read_rows(folder.metrics, _batches(content))
        self.steps_after = _counter(content)
        tell(f"going on after step {step}, from {file}")
        return hold(trainer, file, content)


def _newest(folder: RunFolder) -> tuple[dict[str, Any] | None, Path | None]:
    """The run's checkpoint with the most steps, and its file; None for both if there is none."""
    found: tuple[dict[str, Any] | None, Path | None] = (None, None)
    most = -1
    # Of two with equal steps the last: it holds the state of both callbacks that keep files.
    for file in sorted(folder.checkpoints.glob("*.ckpt"), key=lambda one: one.name != "last.ckpt"):
        try:
            content = read_checkpoint(file)
        except UserError as error:
            tell(f"{file} cannot be used ({error})")
            continue
        if content["global_step"] > most:
            most, found = content["global_step"], (content, file)
    return found


def _batches(content: dict[str, Any]) -> int:
    """Training batches that were begun before a checkpoint was written."""
    progress = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    return int(progress["total"]["ready"])


def _counter(content: dict[str, Any]) -> Callable[[int], int]:
    """Maps a number of batches to the number of steps made by then, for steps up to a checkpoint.

    A step takes so many batches, and the last one of an epoch those that are left.
    """
    kept = content.get("zolit_pace", {})
    each, epoch = (max(1, int(kept.get(name) or 1)) for name in ("micro_batches", "epoch"))

    def steps(count: int) -> int:
        epochs, rest = divmod(count, epoch)
        return epochs * -(-epoch // each) + rest // each

    return steps


def finished_already(folder: RunFolder, config: str) -> str | None:
    """A sentence if a run without a journal is finished and no more steps are asked for, else None.

    Args:
        folder: of the run.
        config: YAML of the command.
    """
    summary, before = summary_of(folder), recipe_text(folder)
    if summary.get("status") != "finished" or not (before and config):
        return None
    if find_differences(before, config) != Differences():
        return None
    return (
        f"{folder.path}: finished after {summary.get('steps')} steps, nothing to do; for more "
        f"steps: zolit fit --resume {folder.path} --trainer.max_steps N"
    )
