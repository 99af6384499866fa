"""How a command that steps ends: what it prints, and its exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from zolit.callbacks import StopRequested
from zolit.commands.parser import run
from zolit.errors import UserError
from zolit.quiet import quiet_libraries


def run_command(model_class: type[L.LightningModule] | None, args: list[str] | None) -> None:
    """Run a command as the console script does.

    Raises:
        UserError: whatever the user can mend, also where a library refuses it.
    """
    with as_console_script():
        run(model_class, args)


@contextmanager
def as_console_script() -> Iterator[None]:
    """Quietly, and ending with the exit codes of the console script.

    Raises:
        UserError: whatever the user can mend, also where a library refuses it.
    """
    quiet_libraries()
    try:
        yield
    except MisconfigurationException as error:
        raise UserError(f"trainer: {error}") from error
    except StopRequested as stop:
        sys.exit(128 + stop.signal)
