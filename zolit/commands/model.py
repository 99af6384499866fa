"""Parses the group ``model`` of a recipe, which names its class and the options of that class."""

import argparse
import os
from collections.abc import Callable
from typing import Any

import lightning as L
import yaml
from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from zolit.commands.given import as_now
from zolit.training.choose import class_path_of


class RecipeParser(LightningArgumentParser):
    """Takes the options of the model beside ``class_path`` as well as under ``init_args``."""

    short_help: Callable[[], str] | None = None
    """Makes the text that ``--help`` prints; None for that of every option."""

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """The text that ``--help`` prints."""
        if self.short_help is not None:
            return self.short_help()
        text: str = super().format_help(formatter)
        return text

    def parse_string(
        self, content: str, path: str | os.PathLike[str] = "", **options: Any
    ) -> Namespace:
        parsed: Namespace = super().parse_string(_flattened(content), path, **options)
        return parsed


def add_class_path(parser: LightningArgumentParser, module: type[L.LightningModule]) -> None:
    """Add the option ``model.class_path``.

    The class has been chosen before: the parser has its arguments as the group ``model``.

    Args:
        parser: of a command.
        module: the class, which is the default of the option.
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
    flat = as_now(found)
    return content if flat is found else str(yaml.safe_dump(flat, sort_keys=False))
