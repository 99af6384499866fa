"""Which options of a recipe the keys of a grid mean."""

from collections.abc import Iterable, Mapping, Sequence

from zolit.commands.classes import arguments
from zolit.commands.given import Given
from zolit.errors import UserError, nearest_names
from zolit.recipes.flat import public_name
from zolit.sweeps.grid import SEED

_SEEDS = ("model.seed", "data.seed")
_OWN = ("trainer.max_steps", "run.")
"""Options that a sweep sets itself."""


def known_options(
    given: Given, options: Iterable[str], classes: Mapping[str, Sequence[type]]
) -> list[str]:
    """Names of all options of a recipe, with the arguments of the classes that it names.

    Args:
        given: what the user wrote.
        options: dotted names that the parser knows.
        classes: for each option, by dotted name, the classes that it can take.
    """
    found = {public_name(one) for one in options} | {*classes}
    for key, choices in classes.items():
        chosen = given.class_above(f"{key}.x")
        cls = next((one for one in choices if one.__name__ == chosen), None)
        found |= {f"{key}.{name}" for name in ([] if cls is None else arguments(cls))}
    return sorted(one for one in found if not one.endswith(".return"))


def options_of(key: str, known: Sequence[str]) -> list[str]:
    """The options that a key of a grid sets, by their dotted names.

    One option; or for ``seed`` those of the run and of its rows.

    Args:
        key: a dotted name, or a last part of one that no other option has.
        known: names of the recipe's options.

    Raises:
        UserError: if there is no such option, several end in the key, or a sweep sets it itself.
    """
    if key == SEED:
        return [one for one in _SEEDS if one in known]
    plain = public_name(key)
    found = [one for one in known if f".{one}".endswith(f".{plain}")]
    if plain in found or _below_an_item(plain, known):
        found = [plain]
    if len(found) > 1:
        raise UserError(
            f"--grid: got {key!r}, which may be {' or '.join(found)}; write the whole name"
        )
    if not found:
        near = _near(plain, known)
        raise UserError(f"--grid: {key} is no option of this recipe; nearest: {near}")
    if found[0].startswith(_OWN):
        raise UserError(
            f"--grid: got {key!r}, which is {found[0]}; a sweep sets it itself: leave it out, or "
            "compare runs of zolit fit by zolit compare"
        )
    return found


def _below_an_item(key: str, known: Sequence[str]) -> bool:
    """Whether a key lies below an option that takes a class or a list, deeper than is listed.

    The parser says whether there is such an option.
    """
    parents = [key.rsplit(".", count)[0] for count in range(2, key.count(".") + 1)]
    return any(one in known and "." in one for one in parents)


def _near(key: str, known: Sequence[str]) -> str:
    """Full names of the options whose last part or whole name is closest."""
    leaves: dict[str, list[str]] = {}
    for one in known:
        leaves.setdefault(one.rpartition(".")[2], []).append(one)
    close = nearest_names(key.rpartition(".")[2], leaves)
    found = [name for leaf in close for name in leaves[leaf]] or nearest_names(key, known)
    return ", ".join(found[:4]) or "none; zolit fit --help lists them"
