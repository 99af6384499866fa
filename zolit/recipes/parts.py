"""Makes the module and the data of a run from its configuration alone."""

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError
from lightning.pytorch.cli import LightningArgumentParser

from zolit.datamodules import PromptDataModule
from zolit.errors import UserError, user_error_behind
from zolit.recipes.guard import check_parts, confine_parser, load_yaml
from zolit.training.choose import module_class


def module_of(config: str) -> Any:
    """Make the `TuningModule` of the group ``model``, without loading it; other groups are ignored.

    Args:
        config: YAML of a run.

    Raises:
        UserError: if a part of the module cannot be made.
    """
    found = load_yaml(config, "config") if config else {}
    if not isinstance(found.get("model"), dict):
        raise _no_recipe()
    options = dict(found["model"])
    cls = module_class(options.pop("class_path", None))
    confine_parser()
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(cls, "model", required=True)
    try:
        given = parser.parse_object({"model": options})
        check_parts(given, [one.default for one in inspect.signature(cls).parameters.values()])
        module = parser.instantiate_classes(given).model
    except (ArgumentError, ValueError) as error:
        if (said := user_error_behind(error)) is not None:
            raise said from error
        reason = " ".join(str(error).split())
        raise UserError(
            f"config: the group model does not name parts of this zolit ({reason}); use the "
            "versions that the run was made with"
        ) from error
    module.compiles_blocks = False
    return module


def parts_of(module: type) -> list[str]:
    """Names of the module's arguments that are classes with options in a configuration.

    Args:
        module: class of a module.
    """
    hints = get_type_hints(module.__init__)  # type: ignore[misc]
    return [name for name, hint in hints.items() if name != "return" and _is_part(hint)]


def _is_part(hint: Any) -> bool:
    """Whether an annotation expects an object of a class, or a callable that makes one."""
    if get_origin(hint) is Callable:
        return True
    if get_origin(hint) is not None:
        return any(map(_is_part, get_args(hint)))
    return isinstance(hint, type) and hint.__module__ != "builtins" and not is_dataclass(hint)


def data_of(config: str, changes: dict[str, Any]) -> PromptDataModule:
    """Make the data module of a run with some arguments changed; no rows are read.

    Args:
        config: YAML of the run.
        changes: arguments of the data module with their new values.

    Raises:
        UserError: if the run has another kind of data module, or it cannot be made.
    """
    found = load_yaml(config, "config") if config else {}
    data, model = found.get("data"), found.get("model")
    if not isinstance(data, dict) or not isinstance(model, dict):
        raise _no_recipe()
    confine_parser()
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PromptDataModule, "data", required=True)
    given = {**(data.get("init_args") or {}), "source": model.get("source"), **changes}
    try:
        parsed = parser.parse_object({"data": {**data, "init_args": given}})
        check_parts(parsed, [])
        module: PromptDataModule = parser.instantiate_classes(parsed).data
    except (ArgumentError, ValueError) as error:
        if (said := user_error_behind(error)) is not None:
            raise said from error
        raise UserError(
            f"config: data is a {data.get('class_path')}, whose rows cannot be replaced; use "
            "zolit predict --config RUN/config.yaml --ckpt_path FILE with options of its own"
        ) from error
    return module


def _no_recipe() -> UserError:
    return UserError("journal: it was written without the command line and names no recipe")
