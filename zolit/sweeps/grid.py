"""A grid of options: its text, its points, and the names of their folders."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from zolit.caller import by_caller
from zolit.errors import UserError

SEED = "seed"
"""Points that differ in this key alone are one choice, judged by the mean over them."""

_FORM = "expected KEY=VALUE,VALUE,..., such as lr=0.01,0.1,eps=0.001"


@dataclass(frozen=True)
class Point:
    """A point of a grid.

    Attributes:
        name: of its folder.
        values: by the keys of the grid.
    """

    name: str
    values: Mapping[str, Any]

    @property
    def choice(self) -> tuple[tuple[str, str], ...]:
        """Its values without the seed: what one chooses between."""
        return tuple((key, str(value)) for key, value in self.values.items() if key != SEED)

    def told(self) -> str:
        """Its values, for a line."""
        return ", ".join(f"{key} {value}" for key, value in self.values.items())


def read_grid(text: str) -> dict[str, list[str]]:
    """The values of each key of a grid, as they are written.

    Commas within brackets and quotes belong to a value. Blanks around commas do not count.

    Args:
        text: ``KEY=VALUE,VALUE,KEY=VALUE``.

    Raises:
        UserError: if it has another form, a key has no value, or something comes twice.

    Example:
        >>> read_grid("lr=0.1,1,tune=[linear,norm]")
        {'lr': ['0.1', '1'], 'tune': ['[linear,norm]']}
    """
    found: dict[str, list[str]] = {}
    values: list[str] | None = None
    for part in _parts(text):
        key, equals, value = part.partition("=")
        if equals and re.fullmatch(r"\s*[\w.]+\s*", key):
            key = key.strip()
            if key in found:
                raise UserError(f"--grid: got {key!r} twice, {_FORM}; give all its values at once")
            values = found[key] = []
        else:
            value = part
        if values is None or not value.strip():
            raise UserError(f"--grid: got {text!r}, {_FORM}")
        values.append(value.strip())
    return found


def points_of(grid: Mapping[str, Sequence[Any]]) -> list[Point]:
    """Every combination of the values, the last key changing fastest.

    Args:
        grid: values by key.

    Raises:
        UserError: if there is no key, a key has no value, or one has a value twice.
    """
    name = by_caller("--grid", "grid")
    if not grid:
        raise UserError(f"{name}: is empty; {_FORM}")
    for key, values in grid.items():
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise UserError(f"{name}: got {values!r} for {key}, expected a list of values")
        for one in values:
            if not isinstance(one, str | int | float):
                raise UserError(
                    f"{name}: got {one!r} for {key}, expected numbers, texts or truth values; give "
                    "a name, and make the part of it"
                )
        twice = [one for place, one in enumerate(values) if one in values[:place]]
        if twice:
            raise UserError(f"{name}: got {key} {twice[0]} twice; give each value once")
    every = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    names = [_folder(values) for values in every]
    if len({*names}) < len(names):
        names = [f"{number:03d}-{one}" for number, one in enumerate(names)]
    return [Point(one, values) for one, values in zip(names, every, strict=True)]


def _parts(text: str) -> list[str]:
    """Pieces between commas that stand outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for sign in text:
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"":
            quote = sign
        elif sign in "[{(":
            depth += 1
        elif sign in "]})":
            depth -= 1
        elif sign == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += sign
    return parts


def _folder(values: Mapping[str, Any]) -> str:
    """A name for the folder of a point that every system takes."""
    parts = (f"{key.rpartition('.')[2]}={value}" for key, value in values.items())
    return re.sub(r"[^\w.,=+-]", "_", ",".join(parts))[:100]
