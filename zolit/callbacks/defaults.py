"""Options and callbacks that every run has, unless its configuration says otherwise."""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from zolit.callbacks import Journal, Progress, RunReport, StopBetweenSteps
from zolit.callbacks.best import BestCheckpoint
from zolit.callbacks.judged import evaluation_of
from zolit.callbacks.last import LastCheckpoint
from zolit.callbacks.prune_report import PruneReport
from zolit.evaluations import Evaluation
from zolit.runs.folder import RunFolder, RunOptions
from zolit.runs.metrics_file import csv_logger
from zolit.runs.resume_checkpoint import resumes_by_checkpoint
from zolit.training.pruning import PruningModule
from zolit.training.zero_order import ZeroOrderModule

TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "devices": 1,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    # Buffers made while evaluating are written to while fitting, which inference mode forbids.
    "inference_mode": False,
}
"""Options of Lightning's trainer that zolit sets otherwise than Lightning does."""


def keeping_options(
    given: Mapping[str, Any],
    module: L.LightningModule,
    folder: RunFolder | None,
    options: RunOptions,
) -> dict[str, Any]:
    """Options with which Lightning's trainer keeps a run, made from the options that a user gave.

    Args:
        given: options of the trainer by name; callbacks and loggers are objects, one or several.
        module: that the trainer will run.
        folder: of the run that is kept, None where none is.
        options: what frames the run.

    Returns:
        ``callbacks``: zolit's own and the user's; a callback of the user's takes the place of
        zolit's own of the same class. ``logger``: the user's, and with a folder metrics.csv beside
        them unless the user gave False. ``default_root_dir``: the folder, unless the user gave one.
    """
    bare = bool(given.get("barebones"))
    theirs = listed(given.get("callbacks"))
    progress = given.get("enable_progress_bar") is not False and not bare
    own = default_callbacks(
        folder,
        options.best_by,
        evaluation_of(module),
        options.journal and isinstance(module, ZeroOrderModule),
        progress=progress,
        checkpoints=given.get("enable_checkpointing") is not False and not bare,
        resumed_by_checkpoint=resumes_by_checkpoint(module),
    )
    if isinstance(module, PruningModule):
        own = pruning_callbacks(folder, progress)
    own = [one for one in own if not any(isinstance(other, type(one)) for other in theirs)]
    logger = given.get("logger")
    loggers = [] if logger is None or logger is True else listed(logger)
    # zolit's own callbacks first: of several that save checkpoints the trainer asks the first.
    found: dict[str, Any] = {"callbacks": [*own, *theirs], "logger": loggers}
    if folder is None:
        return found
    if logger is not False:
        found["logger"] = [csv_logger(folder.path), *loggers]
    if given.get("default_root_dir") is None:
        found["default_root_dir"] = str(folder.path)
    return found


def pruning_callbacks(folder: RunFolder | None, progress: bool = True) -> list[Callback]:
    """The callbacks of a pruning run; each block is kept by the run itself.

    Args:
        folder: of the run that is kept, None where none is.
        progress: whether a bar tells how far it has come.
    """
    callbacks: list[Callback] = [Progress()] if progress else []
    if folder is not None:
        callbacks += [StopBetweenSteps(), PruneReport(str(folder.path))]
    return callbacks


def listed(parts: Any) -> list[Any]:
    """One part or several, as a list; none for null or false."""
    if parts is None or parts is False:
        return []
    return list(parts) if isinstance(parts, list | tuple) else [parts]


def default_callbacks(
    folder: RunFolder | None,
    best_by: str | None = None,
    evaluation: Evaluation | None = None,
    journaled: bool = True,
    progress: bool = True,
    checkpoints: bool = True,
    resumed_by_checkpoint: bool = False,
) -> list[Callback]:
    """The callbacks of a run: its progress, journal, report and checkpoints.

    Args:
        folder: of the run that is kept, None where none is.
        best_by: figure of validation that chooses the best checkpoint; None: the one that the
            evaluation names.
        evaluation: of the module; None if it does not say.
        journaled: whether its steps are written down.
        progress: whether a bar tells how far it has come.
        checkpoints: whether the best and the last weights are kept.
        resumed_by_checkpoint: whether the run has nothing but the last checkpoint to go on from.
    """
    callbacks: list[Callback] = [Progress()] if progress else []
    if folder is None:
        return callbacks
    if journaled:
        callbacks.append(Journal(str(folder.path)))
    callbacks.append(StopBetweenSteps())
    callbacks.append(RunReport(str(folder.path), best_by))
    if not checkpoints:
        return callbacks
    best = BestCheckpoint(
        best_by,
        evaluation,
        dirpath=folder.checkpoints,
        filename="best",
        # A resumed run makes some validations again, and then overwrites their file.
        enable_version_counter=False,
    )
    # A callback of its own: `save_last` would save only when the best checkpoint is saved.
    kind = LastCheckpoint if resumed_by_checkpoint else ModelCheckpoint
    last = kind(dirpath=folder.checkpoints, filename="last", enable_version_counter=False)
    return [*callbacks, best, last]
