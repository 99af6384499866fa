"""What a checkpoint holds: looked through before anything of it is used.

Checkpoints are handed from one person to another. Reading one runs no code (``weights_only``); what
is looked through here is that its values have the types and its paths the places of a run's.
"""

import math
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
from torch import Tensor
from torch.optim import Optimizer

from zolit.errors import UserError
from zolit.training.zero_order import ZeroOrderModule

_TYPES: dict[str, type] = {
    "callbacks": dict,
    "epoch": int,
    "global_step": int,
    "loops": dict,
    "lr_schedulers": list,
    "optimizer_states": list,
    "pytorch-lightning_version": str,
    "state_dict": dict,
    "zolit_estimator": dict,
    "zolit_skipped_in_row": int,
    "zolit_skipped_queries": int,
}
_NEEDED = ("epoch", "global_step", "pytorch-lightning_version", "state_dict")


def check_content(content: Any, path: Path) -> None:
    """Refuse a file whose values are not of a checkpoint's types.

    Args:
        content: what was read from it.
        path: of the file.

    Raises:
        UserError: naming the first value that is missing or of another type.
    """
    found = content if isinstance(content, dict) else {}
    for name, kind in _TYPES.items():
        if name in found or name in _NEEDED:
            _require(isinstance(found.get(name), kind), path, name)
    _require(found["global_step"] >= 0 and found["epoch"] >= 0, path, "global_step")
    version = found["pytorch-lightning_version"].split(".")
    _require(len(version) > 1 and version[0].isdecimal(), path, "pytorch-lightning_version")
    if "zolit_fingerprint" in found:
        _require("zolit_skipped_queries" in found, path, "zolit_skipped_queries")
        for name, tensor in found["state_dict"].items():
            plain = isinstance(name, str) and isinstance(tensor, Tensor)
            _require(plain, path, "state_dict")
    for state in found.get("callbacks", {}).values():
        _require(isinstance(state, dict), path, "callbacks")


def keep_inside(content: dict[str, Any], folder: Path) -> None:
    """Put the paths that a `ModelCheckpoint` remembers into the folder of the file, by their names.

    Lightning loads the best one after fitting and deletes those that are worse: a path that leads
    elsewhere would do so to any file of the user's. So a run's folder can also be moved.

    Args:
        content: of the file, changed in place.
        folder: where the file stands.
    """
    for state in content.get("callbacks", {}).values():
        if "dirpath" not in state:
            continue
        state["dirpath"] = str(folder)
        for name in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[name] = _inside(state.get(name, ""), folder)
        models = state.get("best_k_models")
        named = models if isinstance(models, dict) else {}
        state["best_k_models"] = {_inside(path, folder): score for path, score in named.items()}
        if not state["best_model_path"]:
            state["best_model_score"] = None


def _inside(path: Any, folder: Path) -> str:
    """The file of this name in the folder; empty if there is none."""
    name = Path(str(path)).name
    return str(folder / name) if name and (folder / name).is_file() else ""


def check_training(
    content: Mapping[str, Any], module: ZeroOrderModule, optimizer: Optimizer
) -> None:
    """Refuse a checkpoint from which the module's optimizer cannot go on.

    Args:
        content: that `check_content` let pass.
        module: prepared.
        optimizer: of its weights.

    Raises:
        UserError: naming what does not fit.
    """
    path = None
    states: Any = content.get("optimizer_states")
    _require(bool(states) and isinstance(states[0], dict), path, "optimizer_states")
    groups, wanted = states[0].get("param_groups"), optimizer.state_dict()["param_groups"]
    _require(isinstance(groups, list) and len(groups) == len(wanted), path, "param_groups")
    for group, mine in zip(groups, wanted, strict=True):
        kept = {name: value for name, value in mine.items() if name != "initial_lr"}  # a schedule's
        _require(_like(kept, group), path, "param_groups")
        numbers = all(isinstance(one, int) for one in group["params"])
        _require(numbers and group["params"] == mine["params"], path, "param_groups")
        _require(math.isfinite(group["lr"]), path, "lr")
    residuals: Any = states[0].get("state")
    _require(isinstance(residuals, dict), path, "optimizer state")
    for index, weight in enumerate(module.weights):
        kept = residuals.get(index, {})
        _require(isinstance(kept, dict), path, "optimizer state")
        shape = (weight.store.rows, weight.store.padded_columns)
        fits = "residual" not in kept or (
            isinstance(kept["residual"], Tensor) and tuple(kept["residual"].shape) == shape
        )
        _require(fits, path, f"residual of {weight.path}")
    schedules: Any = content.get("lr_schedulers")
    sound = isinstance(schedules, list) and all(isinstance(one, dict) for one in schedules)
    _require(sound, path, "lr_schedulers")


def check_schedule(content: Mapping[str, Any], scheduler: Any) -> None:
    """Refuse the state of a schedule that cannot go on from it, by trying.

    Args:
        content: that `check_training` let pass.
        scheduler: one such as the run's, which is not used afterwards; None without one.

    Raises:
        UserError: if the state cannot be taken, or gives no learning rate.
    """
    if scheduler is None or not content["lr_schedulers"]:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the optimizer has not stepped
            scheduler.load_state_dict(content["lr_schedulers"][0])
            with suppress(ValueError):  # a schedule of so many steps may be at its end
                scheduler.step()
        sound = all(math.isfinite(group["lr"]) for group in scheduler.optimizer.param_groups)
    # Torch's schedules take their state as it stands, and raise whatever they come to.
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        sound = False
    _require(sound, None, "lr_schedulers")


def check_loops(content: Mapping[str, Any], trainer: L.Trainer) -> None:
    """Refuse counters that Lightning's loops cannot go on from.

    Raises:
        UserError: if one is missing or of another type.
    """
    found = content.get("loops", {}).get("fit_loop")
    _require(_like(trainer.fit_loop.state_dict(), found), None, "loops")
    # Of training loaders that take a state; what is in it they check themselves.
    states = found["state_dict"].get("combined_loader", [])
    sound = isinstance(states, list) and all(isinstance(one, dict) for one in states)
    _require(sound, None, "states of training loaders")


def _like(template: Any, got: Any) -> bool:
    """Whether ``got`` has the keys of ``template``, with values of the same types."""
    if isinstance(template, dict):
        return isinstance(got, dict) and all(
            name in got and _like(value, got[name]) for name, value in template.items()
        )
    if isinstance(template, float):
        return isinstance(got, float | int)
    return isinstance(got, type(template))


def _require(sound: bool, path: Path | None, name: str) -> None:
    if not sound:
        where = "the file" if path is None else repr(str(path))
        raise UserError(
            f"ckpt_path: {where} has no {name} such as a checkpoint of this recipe has; give "
            "another checkpoint of the run, or one that zolit replay writes"
        )
