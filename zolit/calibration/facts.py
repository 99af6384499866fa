"""Reads and checks the description that zolit's own safetensors files carry in their metadata."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from safetensors import SafetensorError, safe_open

from zolit.errors import UserError, first_line


class Versioned(Protocol):
    """A description that names the version of its format."""

    @property
    def version(self) -> int: ...


Facts = TypeVar("Facts", bound=Versioned)


def read_facts(
    file: str | Path, make: Callable[..., Facts], version: int, kind: str, where: str, again: str
) -> Facts:
    """The description of a file: JSON in its metadata, under ``zolit_`` and the kind of file.

    Args:
        file: a safetensors file.
        make: class of the description, called with its entries by name. The entry ``shapes`` has
            ``(rows, columns)`` by parameter name.
        version: of the format; another one is refused.
        kind: ``saliency`` or ``mask``.
        where: begins the message of an error: the option that names the file.
        again: ends that message: how to make such a file.

    Raises:
        UserError: if the file is not there, not whole, not of this kind or of another version.
    """
    name = str(file)
    if not Path(file).is_file():
        raise UserError(f"{where}: got {name!r}, expected a file; {again}")
    try:
        with safe_open(file, "pt") as opened:
            text = (opened.metadata() or {}).get(f"zolit_{kind}", "")
    except SafetensorError as error:
        raise UserError(
            f"{where}: {name!r} is not a whole safetensors file ({first_line(error)}); copy it "
            f"again, or {again}"
        ) from error
    try:
        found = json.loads(text)
        found["shapes"] = {path: (int(a), int(b)) for path, (a, b) in found["shapes"].items()}
        facts = make(**found)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{where}: {name!r} holds no {kind} of zolit; {again}") from error
    if facts.version != version:
        raise UserError(
            f"{where}: {name!r} has version {facts.version} of the format, expected {version}; "
            f"{again}"
        )
    return facts
