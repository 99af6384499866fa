"""Check a table of rows against a task, and tell the user what is surprising in it."""

from collections.abc import Mapping

import pandas as pd

from zolit.datamodules.own_answers import OwnAnswersTask
from zolit.datamodules.tasks import Task, label_key
from zolit.datamodules.template import doubled
from zolit.datamodules.values import UnfitValueError, plain_values
from zolit.errors import UserError, nearest

_OTHER_TASK = "use rename, change the task ({{ and }} are braces of its text)"


def checked_table(
    table: pd.DataFrame, argument: str, task: Task | OwnAnswersTask, labelled: bool = True
) -> pd.DataFrame:
    """The rows that a task can use, their values as Python objects; the index keeps row numbers.

    Args:
        table: as it was read.
        argument: of the data module that it is from, for messages.
        task: that will read it.
        labelled: whether labels are needed; without them no row is dropped for its label.

    Raises:
        UserError: no rows, a missing column or value, or no row with a label that counts.
    """
    if table.empty:
        raise UserError(f"{argument}: there are no rows; check the file.")
    table = table.copy()
    for column in (*task.columns, *([task.label] if labelled else [])):
        if column not in table.columns:
            raise UserError(
                f"{argument}: there is no column {column!r}, which the task reads; nearest names: "
                f"{nearest(column, map(_shown, table.columns))}; "
                + (_OTHER_TASK if labelled else "give the file a column of that name")
                + ", or rows.names for a file without a header line."
            )
        missing = table[column].isna().to_numpy()
        values = plain_values(table[column])
        for number, value in zip(table.index, values, strict=True):
            if isinstance(value, UnfitValueError):
                raise UserError(
                    f"{argument}: column {column!r} of row {number} is {value}."
                ) from value
        if missing.any():
            place = int(missing.argmax())
            last = place == len(table) - 1 > 0
            raise UserError(
                f"{argument}: row {table.index[place]}{', the last one,' if last else ''} has no "
                f"value in column {column!r}; fill it in or drop the row"
                f"{', or get the file again if it was cut' if last else ''}."
            )
        table[column] = pd.Series(values, index=table.index, dtype=object)
    if not labelled:
        return table
    ignored = [task.is_ignored(label) for label in table[task.label]]
    kept = table.loc[[not one for one in ignored]]
    if kept.empty:
        raise UserError(
            f"{argument}: no rows are left of {len(table)} after dropping the labels {task.ignore};"
            " check the file and task.ignore."
        )
    return kept


def table_notes(
    task: Task | OwnAnswersTask,
    tables: Mapping[str, pd.DataFrame],
    chosen: Mapping[str, pd.DataFrame],
    sizes: Mapping[str, int | None],
) -> list[str]:
    """Sentences about rows that are used otherwise than a user might expect.

    Args:
        task: that reads the rows.
        tables: each that was read, by split.
        chosen: rows of each split.
        sizes: that were asked for.
    """
    words = task if isinstance(task, Task) else None
    found = template_notes(task, tables["train"])
    found += [] if words is None else _word_notes(words, tables)
    for split, table in chosen.items():
        found += empty_notes(task, table, split)
        if split in tables and split != "train":
            found += _cut(split, len(table), len(tables[split]), sizes[split])
    return found if words is None else found + _class_notes(words, chosen["train"])


def _word_notes(task: Task, tables: Mapping[str, pd.DataFrame]) -> list[str]:
    """A sentence for each word that several labels of the rows share."""
    found = []
    present = {label_key(label) for table in tables.values() for label in table[task.label]}
    for answer in task.answers:
        same = [label for label, word in task.words.items() if word == answer]
        same = [label for label in same if label_key(label) in present]
        if len(same) > 1:
            found.append(
                f"task.words: the labels {', '.join(same)} have one word, {answer!r}, and are one "
                "class"
            )
    return found


def _class_notes(task: Task, train: pd.DataFrame) -> list[str]:
    """A sentence if the training rows lack answers."""
    classes = {task.class_of(label) for label in train[task.label]}
    if len(classes) == 1:
        [only] = classes
        return [
            f"rows: all {len(train)} training rows have the answer "
            f"{task.answers[only]!r}, so the model learns to give it whatever it reads"
        ]
    if len(classes) < len(task.answers):
        lacking = [word for place, word in enumerate(task.answers) if place not in classes]
        return [f"rows: no training row has the answer {', '.join(map(repr, lacking))}"]
    return []


def _cut(split: str, drawn: int, given: int, size: int | None) -> list[str]:
    """A sentence if only a part of the file for a split is used."""
    if drawn == given or size == 0:
        return []
    if drawn == size:
        return [
            f"{split}_rows: {drawn} of {given} rows are drawn ({split}_size={size}); "
            f"{split}_size=null takes all"
        ]
    return [f"{split}_rows: {given - drawn} of {given} rows are in test_rows too and are left out"]


def template_notes(task: Task | OwnAnswersTask, table: pd.DataFrame) -> list[str]:
    """Sentences about a template that is read otherwise than a user might expect."""
    found = [
        f"task.template: {{{{{name}}}}} is the text {{{name}}}; write {{{name}}} for the column"
        for name in doubled(task.template)
        if name in table.columns
    ]
    if task.label in task.columns:
        found.append(
            f"task.template: it shows the column of labels, {task.label!r}: the answer is there to "
            "be read"
        )
    if task.template.endswith(" "):
        found.append(
            "task.template: it ends in a blank, which is left out: the answer brings its own"
        )
    return found


def empty_notes(task: Task | OwnAnswersTask, table: pd.DataFrame, split: str) -> list[str]:
    """A sentence for each column with empty texts."""
    found = []
    for column in task.columns:
        empty = [isinstance(value, str) and not value.strip() for value in table[column]]
        if any(empty):
            found.append(
                f"{split}: {sum(empty)} of {len(table)} rows have an empty text in column "
                f"{column!r}, the first is row {table.index[empty.index(True)]}"
            )
    return found


def _shown(name: object) -> str:
    """A column's name, in quotes where blanks at its ends would not be seen."""
    text = str(name)
    return text if text == text.strip() else repr(text)
