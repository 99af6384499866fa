"""Makes the trainer of a run, for the command line and for Python alike."""

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from zolit.callbacks.checks import check_best_by, check_callbacks
from zolit.callbacks.defaults import TRAINER_DEFAULTS, keeping_options, listed
from zolit.callbacks.judged import VAL, evaluation_of
from zolit.caller import option, setting
from zolit.checkpoints.file import use_whole_files
from zolit.errors import UserError
from zolit.runs.folder import RunFolder, RunOptions
from zolit.runs.prune import refuse_trainer_steps
from zolit.training.first_order import FirstOrderModule
from zolit.training.module import TuningModule
from zolit.training.pruning import PruningModule
from zolit.training.trainer_options import refuse_trainer_options
from zolit.training.zero_order import ZeroOrderModule


def make_trainer(
    given: Mapping[str, Any],
    module: L.LightningModule,
    folder: RunFolder | None = None,
    options: RunOptions | None = None,
    fits: bool = False,
    trainer_class: type[L.Trainer] = L.Trainer,
) -> L.Trainer:
    """A trainer that follows a user's options, with the callbacks that keep a run.

    Args:
        given: options of Lightning's trainer by name; `TRAINER_DEFAULTS` holds for the others.
            Callbacks and loggers are objects, one or several.
        module: that the trainer will run.
        folder: of the run that is kept; None where none is.
        options: what frames the run; None for the defaults.
        fits: whether the trainer will make steps.
        trainer_class: its class.

    Raises:
        UserError: if the module cannot be run with one of the options, or Lightning refuses it.
    """
    options = options or RunOptions()
    if isinstance(module, PruningModule) and fits:
        refuse_trainer_steps(given)
        refuse_trainer_options(given, False, True)
        given = {**given, "max_epochs": 1, "enable_checkpointing": False}
    if isinstance(module, ZeroOrderModule | FirstOrderModule):
        first = not module.projected_gradient
        refuse_trainer_options(given, fits, first)
        figures = [f"{VAL}{name}" for name in module.evaluation.names]
        callbacks = listed(given.get("callbacks"))
        check_callbacks(callbacks, [*module.step_figures(), *figures], first)
    check_best_by(options.best_by, evaluation_of(module))
    kept = keeping_options(given, module, folder, options)
    try:
        trainer = trainer_class(**{**TRAINER_DEFAULTS, **given, **kept})
    except (MisconfigurationException, ModuleNotFoundError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"trainer: {error}") from error
    if isinstance(module, TuningModule):
        _check_made(trainer)
    use_whole_files(trainer)
    return trainer


def _check_made(trainer: L.Trainer) -> None:
    """Refuse a trainer that computes in several processes or in another dtype than the model's.

    Raises:
        UserError: naming the option that made it so.
    """
    if trainer.world_size > 1:
        raise UserError(
            f"{option('trainer.devices')}: {trainer.world_size} devices were found; zolit trains "
            f"in one process on one device: set {setting('trainer.devices', 1)}"
        )
    if trainer.precision != "32-true":
        raise UserError(
            f"{option('trainer.plugins')}: got one for the precision {trainer.precision}; zolit "
            f"computes in the dtype of the model: set {setting('model.dtype', 'bfloat16')} or "
            "float32 instead"
        )
