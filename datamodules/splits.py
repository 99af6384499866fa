"""Disjoint train, validation and test rows, the same for the same seed on every machine."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from zolit.errors import UserError

SPLITS = ("train", "validation", "test")


def split_rows(
    tables: dict[str, pd.DataFrame],
    sizes: dict[str, int | None],
    key_columns: Sequence[str],
    seed: int,
) -> dict[str, pd.DataFrame]:
    """Draw the three splits.

    A split with a table of its own takes at most its size from it, in a seeded random order. The
    other splits share the train table: test rows are drawn first, then validation, then train, each
    exactly as many as asked.

    No text is in two splits. Before the draw these rows are dropped: rows of the train table that
    repeat an earlier one, or a row of the validation or test table; and rows of the validation
    table that the test table holds too.

    Args:
        tables: ``train``, and ``validation`` or ``test`` where given separately.
        sizes: rows of each split; None takes all that is left (for train), or the whole given
            table; a split drawn from the train table needs a number, 0 for none.
        key_columns: the columns that make two rows the same text.
        seed: of the draw; each split has its own stream.

    Returns:
        Each split's rows, in drawn order, with the row numbers of their file as index.

    Raises:
        UserError: fewer rows than asked, or a split without rows.
    """
    chosen: dict[str, pd.DataFrame] = {}
    seen: set[tuple[str, ...]] = set()
    for split in ("test", "validation"):
        if split in tables:
            table = _shuffled(_without(tables[split], key_columns, seen), seed, split)
            chosen[split] = table.iloc[: sizes[split]]
            seen.update(_keys(tables[split], key_columns))
    pool = _without(tables["train"], key_columns, seen)
    pool = pool.loc[~pd.Index(_keys(pool, key_columns), tupleize_cols=False).duplicated()]
    pool = _shuffled(pool, seed, "train")
    drawn = {split: sizes[split] for split in ("test", "validation") if split not in tables}
    for split, size in drawn.items():
        if size is None:
            raise UserError(
                f"{split}_size: got null without {split}_rows; give a number of rows to set aside "
                f"from rows, or {split}_rows."
            )
    wanted = {**drawn, "train": sizes["train"] or 0}
    if sum(size or 0 for size in wanted.values()) > len(pool):
        asked = ", ".join(f"{split}_size={size}" for split, size in wanted.items())
        tenth = max(1, len(pool) // 10)
        fitting = "".join(f"{split}_size={tenth}, " for split, size in drawn.items() if size)
        raise UserError(
            f"{', '.join(f'{split}_size' for split in wanted)}: rows has {len(pool)} different rows"
            f" left for them, got {asked}; set sizes that fit, such as {fitting}"
            "train_size=null (all that are left), or give separate files."
        )
    start = 0
    for split, size in drawn.items():
        chosen[split] = pool.iloc[start : start + (size or 0)]
        start += size or 0
    train_size = sizes["train"]
    end = len(pool) if train_size is None else start + train_size
    chosen["train"] = pool.iloc[start:end]
    for split, table in chosen.items():
        # The user asked for 0 rows: the split stays empty.
        if table.empty and sizes[split] != 0:
            raise UserError(
                f"{split}_size: no rows are left for {split} ({len(tables.get(split, pool))} read, "
                "the rest repeat or belong to another split); give more rows or smaller sizes."
            )
    return {split: chosen[split] for split in SPLITS}


def _keys(table: pd.DataFrame, columns: Sequence[str]) -> list[tuple[str, ...]]:
    return list(table[list(columns)].astype(str).itertuples(index=False, name=None))


def _without(
    table: pd.DataFrame, columns: Sequence[str], seen: set[tuple[str, ...]]
) -> pd.DataFrame:
    if not seen:
        return table
    return table.loc[[key not in seen for key in _keys(table, columns)]]


def _shuffled(table: pd.DataFrame, seed: int, split: str) -> pd.DataFrame:
    generator = np.random.default_rng([seed, SPLITS.index(split)])
    return table.iloc[generator.permutation(len(table))]
