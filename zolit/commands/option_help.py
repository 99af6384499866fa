"""``zolit fit --help``: the options that a user sets, a line or two each."""

import argparse
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import lightning as L
from lightning.pytorch.cli import LightningArgumentParser

from zolit.commands.help import RECIPE_COMMANDS

_WIDTH, _INDENT = 100, 36
_LISTED = 12

_TRAINER = (
    "max_steps",
    "max_epochs",
    "max_time",
    "val_check_interval",
    "check_val_every_n_epoch",
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "accelerator",
    "callbacks",
    "logger",
    "enable_progress_bar",
    "fast_dev_run",
)
"""Options of Lightning's trainer that are shown."""

_SINGLE = {"config": "FILE", "print_config": "", "to": "FILE", "json": ""}
_OF_COMMAND = {
    "fit": {"resume": "RUN", "find_lr": "[tell|use]", "ckpt_path": "FILE"},
    "prune": {"resume": "RUN"},
    **{command: {"ckpt_path": "FILE"} for command in ("validate", "test", "predict")},
}
"""Options without a group that are shown, with what stands for their values: of every command that
has them, and of some commands alone. The others take them from a run's config.yaml and ignore them.
"""

_HELP = """\
zolit {command}: {what}

usage: zolit {command} --config FILE [--GROUP.OPTION VALUE ...]

Every option can be set in the YAML file, one level for each dot, or here; the command line wins.

{options}

more help:
  zolit {command} --model.quantizer.help Int4   the options of a class that an option names
  zolit {command} --help.all                    every option in full, all of Lightning's too
"""


class HelpAll(argparse.Action):
    """Prints the help of every option of a command, and ends the process."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(
            option_strings,
            argparse.SUPPRESS,
            nargs=0,
            default=argparse.SUPPRESS,
            help="Show the help of every option and exit.",
        )

    def __call__(self, parser: Any, *args: Any, **kwargs: Any) -> None:
        parser.short_help = None
        parser.print_help()
        parser.exit()


def short_help(
    command: str,
    parser: LightningArgumentParser,
    data: type[L.LightningDataModule],
    classes: Mapping[str, Sequence[type]],
) -> str:
    """The help of a command that reads a recipe.

    Args:
        command: one of `RECIPE_COMMANDS`.
        parser: of the command.
        data: the data module that a recipe has unless it names another.
        classes: for each option, by dotted name, the classes that it can take.
    """
    single = {**_SINGLE, **_OF_COMMAND.get(command, {})}
    shown: dict[str, list[argparse.Action]] = {
        "options": [one for one in parser._actions if one.dest in single],
        "saliency": list(_group(parser, "saliency")),
        "model": list(_group(parser, "model")),
        "data": list(_group(_of_class(data), "data")),
        "trainer (the most used)": [
            one for one in _group(parser, "trainer") if one.dest.partition(".")[2] in _TRAINER
        ],
        # The other commands take these options too, so that they can read a run's config.yaml.
        "run": list(_group(parser, "run")) if command in ("fit", "prune") else [],
    }
    sections = [
        "\n".join([f"{title}:", *(_lines(one, _named(one, classes), single) for one in actions)])
        for title, actions in shown.items()
        if actions
    ]
    options = "\n\n".join(sections)
    return _HELP.format(command=command, what=RECIPE_COMMANDS[command], options=options)


def _of_class(data: type[L.LightningDataModule]) -> LightningArgumentParser:
    """A parser of a data module's arguments, but for the one that is taken from the model."""
    parser = LightningArgumentParser()
    parser.add_class_arguments(data, "data", skip={"source"}, fail_untyped=False)
    return parser


def _group(parser: LightningArgumentParser, group: str) -> Iterator[argparse.Action]:
    """The options of a group, without those that only print help or read the group from a file."""
    names = [action.dest for action in parser._actions]
    for action in parser._actions:
        name = action.dest
        is_group = any(other.startswith(f"{name}.") and other != f"{name}.help" for other in names)
        if name.startswith(f"{group}.") and not name.endswith(".help") and not is_group:
            yield action


def _named(action: argparse.Action, classes: Mapping[str, Sequence[type]]) -> Sequence[type]:
    """The classes that are listed for an option: not Lightning's many callbacks and loggers."""
    return () if action.dest.startswith("trainer.") else classes.get(action.dest, ())


def _lines(action: argparse.Action, classes: Sequence[type], values: Mapping[str, str]) -> str:
    """An option with what it says, the first sentence alone."""
    # Of an option that is a list, jsonargparse takes `--option+` too, which adds to it.
    names = [one for one in action.option_strings if not one.endswith("+")]
    value = values[action.dest] if action.dest in values else _value(action, classes)
    name = f"  {', '.join(names)} {value}".rstrip()
    plain = (action.help or "").replace("`", "")
    said = re.split(r"(?<=[\w)])[.;](?:\s|$)", plain, maxsplit=1)[0]
    if classes:
        known = [one.__name__ for one in classes]
        said += f": {', '.join(known[:_LISTED])}{', ...' * (len(known) > _LISTED)}"
    if isinstance(action.default, int | float | str) and action.default not in ("", "==SUPPRESS=="):
        said += f" ({_plain(action.default)})"
    wrapped = textwrap.wrap(said, _WIDTH - _INDENT) or [""]
    gap = " " * _INDENT
    if len(name) < _INDENT - 1:
        first = name.ljust(_INDENT) + wrapped[0]
        return "\n".join([first.rstrip(), *(gap + line for line in wrapped[1:])])
    return "\n".join([name, *(gap + line for line in wrapped if line)])


def _plain(value: int | float | str) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(action: argparse.Action, classes: Sequence[type]) -> str:
    """What stands for the value of an option."""
    if classes:
        return "CLASS"
    kind: Any = getattr(action, "_typehint", action.type)
    parts = [one for one in get_args(kind) if one is not type(None)]
    if get_origin(kind) is Literal:
        return "|".join(map(str, parts))
    if len(parts) == 1 and get_origin(kind) is not list:
        kind = parts[0]
    return {int: "N", float: "X", bool: "true|false"}.get(kind, "VALUE")
