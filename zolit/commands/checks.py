"""Refuses, before the folder of a run is made, options that would stop the run later."""

import inspect
import sys
from typing import Any

import lightning as L
import torch

from zolit.commands.given import Given, checkpoint_path
from zolit.errors import UserError
from zolit.optim import ZOSGD, open_rate_error
from zolit.training.choose import module_class
from zolit.training.module import TuningModule
from zolit.training.pruning import PruningModule


def check_options(config: Any, module: type[TuningModule]) -> ZOSGD | None:
    """Refuse an optimizer or a schedule that a module cannot step with.

    Args:
        config: of the command, as parsed.
        module: class of the module.

    Returns:
        The optimizer, of no weights of the model, if it is one of zolit's.

    Raises:
        UserError: naming the option.
    """
    optimizer = _check_optimizer(config.model.optimizer, module)
    path = getattr(config.model.lr_scheduler, "class_path", None)
    if (schedule := _class(path)) is not None and follows_a_figure(schedule):
        raise UserError(
            f"model.lr_scheduler: got {path!r}, which needs a figure at every step; use a schedule "
            "by the number of steps, such as torch.optim.lr_scheduler.StepLR"
        )
    return optimizer


def module_of_command(
    command: str, named: Any, default: type[L.LightningModule]
) -> type[L.LightningModule]:
    """The class of the module that a command runs.

    Args:
        command: that is run.
        named: ``model.class_path`` of the configuration; None if it names none.
        default: the class then; `PruningModule` for ``zolit prune``.

    Raises:
        UserError: if there is no such class, or the command does nothing with it.
    """
    module = module_class(named, PruningModule if command == "prune" else default)
    prunes = issubclass(module, PruningModule)
    if command == "prune" and not prunes:
        raise UserError(
            f"model.class_path: got {module.__name__} with zolit prune, expected PruningModule; "
            "leave it out, or run zolit fit"
        )
    if command in ("fit", "estimate", "saliency", "sweep", "validate") and prunes:
        raise UserError(
            f"model.class_path: got {module.__name__} with zolit {command}, which takes modules "
            "that are tuned; run zolit prune, and zolit test for figures"
        )
    return module


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
        if command not in ("fit", "prune") or config.ckpt_path is not None:
            raise UserError(
                f"resume: got {config.resume!r} beside {command} or ckpt_path; it goes with zolit "
                "fit and zolit prune alone, which take the run's own files"
            )
        if command == "fit" and not config.run.journal:
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


def _check_optimizer(config: Any, module: type[TuningModule]) -> ZOSGD | None:
    path = getattr(config, "class_path", None)
    if path is None and module.projected_gradient:
        return ZOSGD([torch.zeros(1)])  # the default
    if (cls := _class(path)) is None:
        return None
    if module.takes_optimizer(cls):
        if not issubclass(cls, ZOSGD):
            return None
        # Made now, so that its arguments are judged before the model is loaded.
        made = cls([torch.zeros(1)], **config.init_args.as_dict())
        if cls.needs_lr is not None and config.init_args.get("lr") is None:
            raise open_rate_error(cls.__name__, cls.needs_lr, None)
        return made
    if module.projected_gradient:
        raise UserError(
            f"model.optimizer: got {path!r}, which steps on gradients that {module.__name__} does "
            "not compute; use ZOSGD or ZOSignSGD, or a class of your own that says "
            "projected_gradient = True and whose step takes gradient, a ProjectedGradient; or set "
            "model.class_path: FirstOrderModule"
        )
    raise UserError(
        f"model.optimizer: got {path!r}, which steps along directions that {module.__name__} does "
        "not have; use an optimizer of torch, such as torch.optim.AdamW"
    )
