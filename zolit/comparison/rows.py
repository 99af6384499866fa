"""Whether runs were measured on the same rows."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from zolit.caller import by_caller
from zolit.comparison.record import Record, is_seed
from zolit.errors import UserError
from zolit.recipes.flat import public_name

_GROUPS = ("class_path", "task", "rows", "test_rows", "text", "test_text")
"""Options of data that say which rows there are: runs that differ in them are not compared."""

_FREE = ("source", "train_size", "batch_size", "eval_batch_size", "num_workers")
"""Options of data that measured rows do not depend on."""

_OF_STAGE = {
    "test": ("validation_size", "limit_val_batches"),
    "val": ("test_size", "limit_test_batches"),
}
"""Options that the rows of a stage do not depend on, as they are those of the other stage."""


def check_rows(records: Sequence[Record], stage: str) -> list[str]:
    """Refuse runs on different rows.

    Args:
        records: of the runs.
        stage: whose figures are compared, ``test`` or ``val``.

    Returns:
        A sentence for each option in which the runs differ and that may change what is measured.

    Raises:
        UserError: naming the first option that says that the rows are others.
    """
    described = [one for one in records if one.recipe is not None]
    notes: dict[str, str] = {}
    for other in described[1:]:
        for key, before, now in _differences(described[0], other):
            name = public_name(key)
            told = f"{name} is {before!r} in {described[0].path} and {now!r} in {other.path}"
            if key.startswith("data.") and _says_which_rows(key) and not _same_file(before, now):
                raise UserError(
                    f"{by_caller('compare', 'runs')}: {told}; figures on different rows are not "
                    "comparable: compare these runs apart"
                )
            if not {*name.split(".")} & {*_FREE, *_OF_STAGE[stage]}:
                notes.setdefault(name, f"not all on the same rows or prompts: {told}")
    without = [str(one.path) for one in records if one.recipe is None]
    if without and len(records) > 1:
        notes["recipe"] = (
            f"made from Python, without a recipe: {', '.join(without)}; whether their rows are the "
            "same is not known"
        )
    return list(notes.values())


def _differences(first: Record, other: Record) -> Iterator[tuple[str, Any, Any]]:
    """Options of data, and limits of the trainer, in which two runs differ."""
    one, two = first.recipe or {}, other.recipe or {}
    for key in dict.fromkeys([*one, *two]):
        concerns = key.startswith(("data.", "trainer.limit_test", "trainer.limit_val"))
        if concerns and not is_seed(key) and plain(one.get(key)) != plain(two.get(key)):
            yield key, one.get(key), two.get(key)


def _says_which_rows(key: str) -> bool:
    name = key.removeprefix("data.").removeprefix("init_args.")
    return name.partition(".")[0] in _GROUPS and not name.endswith("template")


def _same_file(one: Any, two: Any) -> bool:
    """Whether two values may name the same file, in folders of two machines."""
    both = isinstance(one, str) and isinstance(two, str)
    return both and "/" in one + two and Path(one).name == Path(two).name


def plain(value: Any) -> Any:
    """A value of a configuration; a class of zolit by its name alone, since classes may move.

    Example:
        >>> plain("zolit.optim.sgd.ZOSGD"), plain(3)
        ('ZOSGD', 3)
    """
    if isinstance(value, str) and value.startswith("zolit."):
        return value.rpartition(".")[2]
    return value
