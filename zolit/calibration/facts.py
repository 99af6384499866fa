"""What zolit's own safetensors files say beside their tensors, read and checked."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypeVar

from safetensors import SafetensorError, safe_open

from zolit.errors import UserError, first_line


class Versioned(Protocol):
    """Facts that name the version of their format."""

    @property
    def version(self) -> int: ...


Facts = TypeVar("Facts", bound=Versioned)


def read_facts(
    file: str | Path, make: Callable[..., Facts], version: int, kind: str, where: str, again: str
) -> Facts:
    """The facts of a file, kept as JSON in its metadata under ``zolit_KIND``.

    Args:
        file: of safetensors.
        make: the facts from their entries by name; of ``shapes``, pairs of rows and columns.
        version: of the format that is read.
        kind: of file: ``saliency`` or ``mask``.
        where: first words of a refusal.
        again: how to get such a file, its last words.

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
