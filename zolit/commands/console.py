"""How a command that steps ends: what it prints, and its exit code."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from zolit.callbacks import StopRequested
from zolit.errors import UserError
from zolit.quiet import quiet_libraries


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
