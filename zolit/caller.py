"""Who will read a message: somebody at the command line, or the writer of a Python program.

The same function runs for both. Where its message names something that the reader can set, it asks
here what that is called: ``--until`` or ``run.overwrite: true`` for the one, ``until`` or
``overwrite=True`` for the other. Python is assumed; a command runs in `as_command`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_COMMAND = ContextVar("zolit_command", default=False)

_GROUP = re.compile(r"(?:model|data|trainer|run)\.(?=[a-z_]+(?:\.[a-z_]+)*: )")
"""The group before the dotted name of an option, where that begins a message."""


@contextmanager
def as_command() -> Iterator[None]:
    """Messages made within are for somebody at the command line."""
    before = _COMMAND.set(True)
    try:
        yield
    finally:
        _COMMAND.reset(before)


def at_command_line() -> bool:
    """Whether a command runs."""
    return _COMMAND.get()


def by_caller(command: str, python: str) -> str:
    """The words that fit the reader.

    Args:
        command: for somebody at the command line.
        python: for the writer of a program.

    Example:
        >>> by_caller("--ckpt_path", "checkpoint")
        'checkpoint'
        >>> with as_command():
        ...     by_caller("--ckpt_path", "checkpoint")
        '--ckpt_path'
    """
    return command if at_command_line() else python


def addressed(sentence: str) -> str:
    """A message that may begin with an option of recipes, which it is about.

    Args:
        sentence: such as ``model.source.path: there is no folder``.

    Example:
        >>> addressed("model.source.path: there is no folder 'here'")
        "source.path: there is no folder 'here'"
        >>> with as_command():
        ...     addressed("model.source.path: there is no folder 'here'")
        "model.source.path: there is no folder 'here'"
    """
    group = None if at_command_line() else _GROUP.match(sentence)
    return sentence if group is None else sentence[group.end() :]


def option(key: str) -> str:
    """The name of an option of recipes; in Python that of the argument.

    Args:
        key: dotted, as in a recipe.

    Example:
        >>> option("trainer.val_check_interval")
        'val_check_interval'
    """
    return by_caller(key, key.rpartition(".")[2])


def setting(key: str, value: object) -> str:
    """An option of recipes with a value, as the reader writes it.

    Args:
        key: dotted, as in a recipe.
        value: text, number, truth value or None.

    Example:
        >>> setting("trainer.check_val_every_n_epoch", None)
        'check_val_every_n_epoch=None'
        >>> with as_command():
        ...     setting("trainer.check_val_every_n_epoch", None)
        'trainer.check_val_every_n_epoch: null'
    """
    plain = {None: "null", True: "true", False: "false"}
    written = plain[value] if isinstance(value, bool | None) else str(value)
    return by_caller(f"{key}: {written}", f"{option(key)}={value!r}")


def export_format(kind: str) -> str:
    """The format of an exported model, as the reader writes it.

    Example:
        >>> export_format("gguf")
        "kind='gguf'"
    """
    return by_caller(f"--format {kind}", f"kind={kind!r}")
