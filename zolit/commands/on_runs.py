"""Runs the commands that take the folder of a run, one file each.

Their options are read before torch is loaded: each file imports what it needs only when it starts.
"""

import argparse
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from zolit.commands import (
    apply,
    compare,
    evaluate,
    export,
    generate,
    listing,
    predict,
    publish,
    replay,
    verify,
)
from zolit.commands.help import RUN_COMMANDS
from zolit.errors import UserError
from zolit.quiet import quiet_libraries

_COMMANDS: dict[str, ModuleType] = {
    "runs": listing,
    "compare": compare,
    "predict": predict,
    "generate": generate,
    "evaluate": evaluate,
    "replay": replay,
    "verify": verify,
    "export": export,
    "publish": publish,
    "apply": apply,
}
"""The file of each command: ``add_options`` adds its options, and ``start`` runs it with them."""


class Parser(argparse.ArgumentParser):
    """Refuses options as every command does."""

    def error(self, message: str) -> NoReturn:
        """Raise a `UserError`."""
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def run(args: list[str]) -> None:
    """Run one of `RUN_COMMANDS`.

    Args:
        args: the command and its arguments.

    Raises:
        UserError: if an argument is wrong, or the run is not what its journal says.
    """
    name, *rest = args
    command, what = _COMMANDS[name], RUN_COMMANDS[name]
    parser = Parser(
        f"zolit {name}", description=f"{what[0].upper()}{what[1:]}.", allow_abbrev=False
    )
    if name not in ("apply", "compare", "runs"):
        parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    command.add_options(parser)
    given = parser.parse_args(rest)
    if name not in ("compare", "runs"):  # they load no library that would print anything
        quiet_libraries()
    command.start(given)
