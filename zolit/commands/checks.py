"""Refuses, before the folder of a run is made, options that would stop the run later."""

import inspect
import sys
from collections.abc import Iterable
from typing import Any

import lightning as L
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from zolit.commands.given import Given, checkpoint_path
from zolit.commands.trainer_options import refuse_trainer_options
from zolit.errors import UserError
from zolit.evaluations import Evaluation
from zolit.training.module import TuningModule

_NO_GRADIENT = "it works on gradients, which zolit does not compute; leave it out"
_MOVES_WEIGHTS = (
    "it moves or replaces weights outside of the optimizer's step, which no journal could replay; "
    "leave it out"
)
_UNFIT = {
    "BackboneFinetuning": "choose what moves by model.tune",
    "BaseFinetuning": "choose what moves by model.tune",
    "BatchSizeFinder": "zolit estimate tells what memory a batch size needs; set data.batch_size",
    "GradientAccumulationScheduler": "set model.micro_batches instead",
    "LearningRateFinder": _NO_GRADIENT,
    "ModelPruning": _MOVES_WEIGHTS,
    "SpikeDetection": _NO_GRADIENT,
    "StochasticWeightAveraging": _MOVES_WEIGHTS,
    "WeightAveraging": _MOVES_WEIGHTS,
}
"""Callbacks of Lightning that a zeroth-order run cannot have, and what to do instead."""

STEPPED = ("train_loss", "step_ms", "skipped_queries")
"""Figures that a `ZeroOrderModule` logs at each step, besides those of its estimator."""


def check_options(config: Any, fits: bool, module: type[TuningModule]) -> None:
    """Refuse options of a run that its module would not follow.

    Args:
        config: of the command, as parsed.
        fits: whether steps are to be made.
        module: class of the module.

    Raises:
        UserError: naming the option.
    """
    refuse_trainer_options(vars(config.trainer), fits)
    _check_optimizer(config.model.optimizer, module)
    path = getattr(config.model.lr_scheduler, "class_path", None)
    if (schedule := _class(path)) is not None and follows_a_figure(schedule):
        raise UserError(
            f"model.lr_scheduler: got {path!r}, which needs a figure at every step; use a schedule "
            "by the number of steps, such as torch.optim.lr_scheduler.StepLR"
        )


def settle_files(config: Any, command: str, given: Given) -> None:
    """Set the folder of the run and the file of a checkpoint, if the user left them open.

    Args:
        config: of the command, as parsed.
        command: that is run.
        given: what the user wrote.

    Raises:
        UserError: if there is no such file, or ``resume`` is given with options that it excludes.
    """
    if config.run.run_dir is None:
        config.run.run_dir = given.run_dir(command)
    if config.resume is not None:
        if command != "fit" or config.ckpt_path is not None:
            raise UserError(
                f"resume: got {config.resume!r} beside {command} or ckpt_path; it goes "
                "with zolit fit alone, which takes the run's own checkpoints"
            )
        if not config.run.journal:
            raise UserError("resume: needs the journal; leave out --run.journal=false")
        config.run.run_dir = config.resume
    if config.ckpt_path is not None:
        run_dir = str(config.run.run_dir)
        config.ckpt_path = checkpoint_path(given, command, config.ckpt_path, run_dir)
    if command == "predict" and config.return_predictions is False:
        raise UserError(
            "return_predictions: got false; predict prints what is returned: leave it out"
        )


def follows_a_figure(schedule: type) -> bool:
    """Whether a schedule of the learning rate needs a figure, such as a loss, at each step."""
    return "metrics" in inspect.signature(schedule.step).parameters  # type: ignore[attr-defined]


def _class(path: Any) -> type | None:
    """The class that an import path names, if it is one."""
    module, _, name = str(path).rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if inspect.isclass(found) else None


def _check_optimizer(config: Any, module: type[TuningModule]) -> None:
    path = getattr(config, "class_path", None)
    if (cls := _class(path)) is None or module.takes_optimizer(cls):
        return
    if module.projected_gradient:
        raise UserError(
            f"model.optimizer: got {path!r}, which steps on gradients that zolit does not compute; "
            "use ZOSGD or ZOSignSGD, or a class of your own that says projected_gradient = True "
            "and whose step takes gradient, a ProjectedGradient"
        )
    raise UserError(
        f"model.optimizer: got {path!r}, which steps along directions that {module.__name__} does "
        "not have; use an optimizer of torch"
    )


def check_best_by(best_by: str | None, evaluation: Evaluation | None) -> None:
    """Refuse a figure for the best checkpoint that no validation has.

    Args:
        best_by: as given; None for the figure that the evaluation names.
        evaluation: of the module; None if the module has none.

    Raises:
        UserError: naming the figures.
    """
    if best_by is None or evaluation is None:
        return
    known = [f"val_{name}" for name in evaluation.names]
    if best_by.partition("/")[0] not in known:  # of one of several loaders
        raise UserError(f"run.best_by: got {best_by!r}, expected one of {', '.join(known)}")


def check_callbacks(callbacks: Iterable[Callback], figures: Iterable[str]) -> None:
    """Refuse callbacks that a `ZeroOrderModule` cannot be trained with.

    Args:
        callbacks: that the configuration names.
        figures: that the module logs while fitting, besides `STEPPED`.

    Raises:
        UserError: naming the callback and what to do instead.
    """
    given, known = list(callbacks), [*STEPPED, *figures]
    for one in given:
        for name, instead in _UNFIT.items():
            if isinstance(one, getattr(lightning_callbacks, name)):
                raise UserError(f"trainer.callbacks: got {type(one).__name__}; {instead}")
    if any(type(one).__module__.partition(".")[0] not in ("lightning", "zolit") for one in given):
        return  # a callback of the user's own may log further figures
    for one in given:
        if isinstance(one, EarlyStopping | ModelCheckpoint) and one.monitor is not None:
            allowed = known if isinstance(one, EarlyStopping) else [*known, "epoch", "step"]
            if one.monitor not in allowed:
                raise UserError(
                    f"trainer.callbacks: {type(one).__name__} got monitor {one.monitor!r}, "
                    f"expected a figure that is logged: {', '.join(allowed)}"
                )


def check_trainer(trainer: L.Trainer) -> None:
    """Refuse a trainer that computes in several processes or in another dtype than the model's.

    Raises:
        UserError: naming the option that made it so.
    """
    if trainer.world_size > 1:
        raise UserError(
            f"trainer.devices: {trainer.world_size} devices were found; zolit trains in one "
            "process on one device: set trainer.devices: 1"
        )
    if trainer.precision != "32-true":
        raise UserError(
            f"trainer.plugins: got one for the precision {trainer.precision}; zolit computes in "
            "the dtype of the model: set model.dtype: bfloat16 or float32 instead"
        )
