"""Module and trainer of a run, made from its configuration alone."""

import tempfile
from pathlib import Path
from typing import Any

import lightning as L
from jsonargparse import ArgumentError
from lightning.pytorch.cli import LightningArgumentParser

from zolit.commands.explain import user_error_behind
from zolit.datamodules import PromptDataModule
from zolit.errors import UserError
from zolit.recipes.guard import load_yaml
from zolit.training.choose import module_class
from zolit.training.zero_order import ZeroOrderModule


def module_and_trainer(config: str) -> tuple[Any, L.Trainer]:
    """Module, not yet loaded, and trainer.

    Args:
        config: YAML of the run.

    Raises:
        UserError: if a part of it cannot be made.
    """
    from zolit.commands.parser import ZolitCLI  # it imports this file's package

    class Parts(ZolitCLI):
        """Makes every part and runs nothing."""

        def _run_subcommand(self, subcommand: str) -> None:
            self.model.compiles_blocks = False  # nothing runs forward here

    if not config:
        raise _no_recipe()
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "config.yaml"
        file.write_text(config, encoding="utf-8")
        cli = Parts(ZeroOrderModule, PromptDataModule, ["test", "--config", str(file)])
    return cli.model, cli.trainer


def module_of(config: str) -> Any:
    """The `TuningModule`, not yet loaded, from the group ``model``; nothing else is read or made.

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
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(cls, "model", required=True)
    try:
        given = parser.parse_object({"model": options})
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


def data_of(config: str, changes: dict[str, Any]) -> PromptDataModule:
    """The data module of a run, with some of its arguments changed; no rows are read.

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
    parser = LightningArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PromptDataModule, "data", required=True)
    given = {**(data.get("init_args") or {}), "source": model.get("source"), **changes}
    try:
        parsed = parser.parse_object({"data": {**data, "init_args": given}})
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
