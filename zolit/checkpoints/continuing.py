"""Whether a run can go on from a checkpoint: its optimizer, its schedule and its loops."""

import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import lightning as L
import torch
from torch import Tensor
from torch.optim import Optimizer

from zolit.checkpoints.content import require
from zolit.tensors.weight import PerturbedWeight


def check_training(
    content: Mapping[str, Any], weights: Sequence[PerturbedWeight], optimizer: Optimizer
) -> None:
    """Refuse a checkpoint from which an optimizer cannot go on.

    Args:
        content: that `check_content` let pass.
        weights: that move, in their order.
        optimizer: of these weights.

    Raises:
        UserError: naming what does not fit.
    """
    path = None
    residuals = _check_optimizer(content, optimizer)
    for index, weight in enumerate(weights):
        kept = residuals.get(index, {})
        require(isinstance(kept, dict), path, "optimizer state")
        shape = (weight.store.rows, weight.store.padded_columns)
        fits = "residual" not in kept or (
            isinstance(kept["residual"], Tensor) and tuple(kept["residual"].shape) == shape
        )
        require(fits, path, f"residual of {weight.path}")
    schedules: Any = content.get("lr_schedulers")
    sound = isinstance(schedules, list) and all(isinstance(one, dict) for one in schedules)
    require(sound, path, "lr_schedulers")


def check_states(content: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Refuse a checkpoint from which an optimizer of torch cannot go on.

    Args:
        content: that `check_content` let pass.
        optimizer: of the weights that move, which are plain tensors.

    Raises:
        UserError: naming what does not fit.
    """
    states = _check_optimizer(content, optimizer)
    weights = [one for group in optimizer.param_groups for one in group["params"]]
    for index, weight in enumerate(weights):
        kept = states.get(index, {})
        require(isinstance(kept, dict), None, "optimizer state")
        for value in kept.values():
            fits = not isinstance(value, Tensor) or value.shape in (weight.shape, torch.Size())
            require(fits, None, "optimizer state of the shape of its weight")
    schedules: Any = content.get("lr_schedulers")
    sound = isinstance(schedules, list) and all(isinstance(one, dict) for one in schedules)
    require(sound, None, "lr_schedulers")


def _check_optimizer(content: Mapping[str, Any], optimizer: Optimizer) -> dict[Any, Any]:
    """The state of each weight by its number; its groups are those of the optimizer.

    Raises:
        UserError: if they are not.
    """
    path = None
    states: Any = content.get("optimizer_states")
    require(bool(states) and isinstance(states[0], dict), path, "optimizer_states")
    groups, wanted = states[0].get("param_groups"), optimizer.state_dict()["param_groups"]
    require(isinstance(groups, list) and len(groups) == len(wanted), path, "param_groups")
    for group, mine in zip(groups, wanted, strict=True):
        kept = {name: value for name, value in mine.items() if name != "initial_lr"}  # a schedule's
        require(_like(kept, group), path, "param_groups")
        numbers = all(isinstance(one, int) for one in group["params"])
        require(numbers and group["params"] == mine["params"], path, "param_groups")
        require(math.isfinite(group["lr"]), path, "lr")
    found: Any = states[0].get("state")
    require(isinstance(found, dict), path, "optimizer state")
    by_number: dict[Any, Any] = found
    return by_number


def check_schedule(content: Mapping[str, Any], scheduler: Any) -> None:
    """Try whether a schedule can continue from the state in a checkpoint; refuse it if not.

    Args:
        content: that `check_training` let pass.
        scheduler: made like that of the run, and not used afterwards; None without one.

    Raises:
        UserError: if the state cannot be taken, or gives no learning rate.
    """
    if scheduler is None or not content["lr_schedulers"]:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the optimizer has not stepped
            scheduler.load_state_dict(content["lr_schedulers"][0])
            with suppress(ValueError):  # a schedule of a fixed number of steps may be at its end
                scheduler.step()
        sound = all(math.isfinite(group["lr"]) for group in scheduler.optimizer.param_groups)
    # Torch's schedules load a state unchecked, and may raise anything when they use it.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        sound = False
    require(sound, None, "lr_schedulers")


def check_loops(content: Mapping[str, Any], trainer: L.Trainer) -> None:
    """Refuse counters that Lightning's loops cannot go on from.

    Raises:
        UserError: if one is missing or of another type.
    """
    found = content.get("loops", {}).get("fit_loop")
    require(_like(trainer.fit_loop.state_dict(), found), None, "loops")
    # States of training loaders, which check them.
    states = found["state_dict"].get("combined_loader", [])
    sound = isinstance(states, list) and all(isinstance(one, dict) for one in states)
    require(sound, None, "states of training loaders")


def _like(template: Any, got: Any) -> bool:
    """Whether ``got`` has the keys of ``template``, with values of the same types."""
    if isinstance(template, dict):
        return isinstance(got, dict) and all(
            name in got and _like(value, got[name]) for name, value in template.items()
        )
    if isinstance(template, float):
        return isinstance(got, float | int)
    return isinstance(got, type(template))
