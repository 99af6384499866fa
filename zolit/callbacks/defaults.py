"""Options and callbacks that every run has, unless its configuration says otherwise."""

from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from zolit.callbacks import Journal, Progress, RunReport, StopBetweenSteps
from zolit.callbacks.best import BestCheckpoint
from zolit.evaluations import Evaluation
from zolit.runs.folder import RunFolder

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


def default_callbacks(
    folder: RunFolder | None,
    best_by: str | None = None,
    evaluation: Evaluation | None = None,
    journaled: bool = True,
    progress: bool = True,
    checkpoints: bool = True,
) -> list[Callback]:
    """Progress, and what keeps a run.

    Args:
        folder: of the run that is kept, None where none is.
        best_by: figure of validation that the best checkpoint is chosen by; None: as the
            evaluation says.
        evaluation: of the module; None if it does not say.
        journaled: whether its steps are written down.
        progress: whether a bar tells how far it has come.
        checkpoints: whether the best and the last weights are kept.
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
        # A run that is resumed may meet the file of a validation it makes again.
        enable_version_counter=False,
    )
    # A second one, as `save_last` would only save where the best one does.
    last = ModelCheckpoint(
        dirpath=folder.checkpoints, filename="last", enable_version_counter=False
    )
    return [*callbacks, best, last]
