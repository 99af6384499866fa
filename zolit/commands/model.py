"""The group ``model`` of a recipe: its class, and its options in either form."""

import os
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from zolit.commands.given import with_flat_model
from zolit.training.choose import class_path_of


class RecipeParser(LightningArgumentParser):
    """Reads options of the model beside ``class_path`` and under ``init_args`` alike."""

    def parse_string(
        self, content: str, path: str | os.PathLike[str] = "", **options: Any
    ) -> Namespace:
        parsed: Namespace = super().parse_string(_flattened(content), path, **options)
        return parsed


def add_class_path(parser: LightningArgumentParser, module: type[L.LightningModule]) -> None:
    """Add the option that names the module's class, which was chosen before the parser was made.

    Args:
        parser: with the group ``model`` of that class.
        module: the class.
    """
    parser.add_argument(
        "--model.class_path",
        type=str,
        default=class_path_of(module),
        help="Class of the module, whose arguments are the options of model.",
    )


def _flattened(content: str) -> str:
    try:
        found = yaml.safe_load(content)
    except yaml.YAMLError:
        return content  # the parser says what is wrong
    flat = with_flat_model(found)
    return content if flat is found else str(yaml.safe_dump(flat, sort_keys=False))
