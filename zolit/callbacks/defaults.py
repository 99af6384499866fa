"""Callbacks that every command brings, unless the configuration names one of their kind."""

from jsonargparse import Namespace
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from zolit.callbacks import Journal, Progress, RunReport, StopBetweenSteps
from zolit.callbacks.best import BestCheckpoint
from zolit.evaluations import Evaluation
from zolit.runs.folder import RunFolder


def default_callbacks(
    trainer: Namespace,
    folder: RunFolder | None,
    journaled: bool,
    best_by: str | None,
    evaluation: Evaluation | None,
) -> list[Callback]:
    """Progress, and what keeps a run.

    Args:
        trainer: the trainer's options.
        folder: of the run that is kept, None where none is.
        journaled: whether its steps are written down.
        best_by: figure of validation that the best checkpoint is chosen by; None: as the
            evaluation says.
        evaluation: of the module; None if it does not say.
    """
    callbacks: list[Callback] = []
    if trainer.enable_progress_bar is not False and not trainer.barebones:
        callbacks.append(Progress())
    if folder is None:
        return callbacks
    if journaled:
        callbacks.append(Journal(str(folder.path)))
    callbacks.append(StopBetweenSteps())
    callbacks.append(RunReport(str(folder.path), best_by))
    if trainer.enable_checkpointing is False or trainer.barebones:
        return callbacks
    best = BestCheckpoint(
        best_by,
        evaluation,
        dirpath=folder.checkpoints,
        filename="best",
        # A run that is resumed may meet the file of a validation it makes again.
        enable_version_counter=False,
    )
    # A second one, as `save_last` would only save where the best one does.
    last = ModelCheckpoint(
        dirpath=folder.checkpoints, filename="last", enable_version_counter=False
    )
    return [*callbacks, best, last]
