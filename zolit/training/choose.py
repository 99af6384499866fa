"""Finds the module that a configuration names by ``model.class_path``."""

import difflib
import importlib
import inspect
import sys
from typing import Any

import lightning as L

from zolit.errors import UserError
from zolit.training.first_order import FirstOrderModule
from zolit.training.module import TuningModule
from zolit.training.pruning import PruningModule
from zolit.training.zero_order import ZeroOrderModule


def module_class(
    path: Any, default: type[L.LightningModule] = ZeroOrderModule
) -> type[L.LightningModule]:
    """The class of a run's module.

    Args:
        path: in the configuration: the name of one of zolit's own modules, or the import path of a
            class; None: the default.
        default: the class if ``path`` is None.

        Raises:
            UserError: if there is no such class.

    Example:
        >>> module_class("ZeroOrderModule").__module__
        'zolit.training.zero_order'
    """
    if path is None:
        return default
    module, _, name = str(path).rpartition(".")
    if not module:
        known = {one.__name__: one for one in (*_own_modules(), default)}
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1) or sorted(known)
            raise _refused(path, f"is not a known name; nearest: {', '.join(near)}")
        return known[name]
    if module.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        raise _refused(path, "is nothing that a configuration may name")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise _refused(path, f"cannot be imported ({error})") from error
    if not (inspect.isclass(found) and issubclass(found, L.LightningModule)):
        raise _refused(path, "is no LightningModule")
    if found is TuningModule:
        raise _refused(path, "makes no steps; name one of its subclasses")
    return found


def class_path_of(module: type[L.LightningModule]) -> str:
    """The import path by which a configuration names a module."""
    return f"{module.__module__}.{module.__qualname__}"


def _own_modules() -> list[type[L.LightningModule]]:
    """Every subclass of `TuningModule` that is imported."""
    found: list[type[L.LightningModule]] = []
    below = list(TuningModule.__subclasses__())
    while below:
        one = below.pop()
        found.append(one)
        below += one.__subclasses__()
    return found


def _refused(path: Any, reason: str) -> UserError:
    return UserError(
        f"model.class_path: {path!r} {reason}; leave it out for ZeroOrderModule, or name "
        f"{FirstOrderModule.__name__}, {PruningModule.__name__} or a class of your own by its "
        "import path, package.module.Class"
    )
