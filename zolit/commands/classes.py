"""The classes that options of a recipe can name, and their arguments."""

import inspect
from typing import Any, get_args, get_origin, get_type_hints

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from zolit.commands.checks import follows_a_figure
from zolit.training.module import TuningModule


def class_options(
    model: type[L.LightningModule], data: type[L.LightningDataModule]
) -> dict[str, list[type]]:
    """For each option, by dotted name, the classes that it can take; an empty list for the others.

    Args:
        model: whose arguments form the group ``model``.
        data: whose arguments form the group ``data``.
    """
    options: dict[str, Any] = {
        "data": L.LightningDataModule,
        "trainer.callbacks": Callback,
        "trainer.logger": Logger,
    }
    for group, cls in (("model", model), ("data", data)):
        hints = get_type_hints(cls.__init__)
        options.update({f"{group}.{name}": hint for name, hint in hints.items()})
    found = {name: subclasses(hint) for name, hint in options.items()}
    if issubclass(model, TuningModule) and "model.optimizer" in found:
        optimizers, schedules = found["model.optimizer"], found["model.lr_scheduler"]
        found["model.optimizer"] = [one for one in optimizers if model.takes_optimizer(one)]
        found["model.lr_scheduler"] = [one for one in schedules if not follows_a_figure(one)]
    return found


def subclasses(annotation: Any) -> list[type]:
    """Concrete classes that an annotation accepts: subclasses of the classes named in it.

    Looks into unions, lists and what a ``Callable`` returns.
    """
    if get_origin(annotation) is None:
        if not isinstance(annotation, type) or annotation.__module__ == "builtins":
            return []
        return list(dict.fromkeys(_below(annotation) or [annotation]))
    parts = get_args(annotation)
    if isinstance(parts[0], list):  # Callable[[arguments], returned]
        parts = parts[1:]
    return [cls for part in parts for cls in subclasses(part)]


def _below(cls: type) -> list[type]:
    found: list[type] = []
    children: list[type] = cls.__subclasses__()
    for child in children:
        if not (inspect.isabstract(child) or child.__name__.startswith("_")):
            found.append(child)
        found += _below(child)
    return found


def arguments(cls: type) -> list[str]:
    """Names of a class's constructor arguments that a configuration sets."""
    try:
        names = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return []
    return [name for name in names if name not in ("params", "args", "kwargs", "optimizer")]
