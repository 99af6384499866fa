"""Answered examples before every prompt: the in-context baseline."""

from collections.abc import Mapping, Sequence
from typing import Any

from zolit.datamodules.chat import is_chat
from zolit.datamodules.own_answers import OwnAnswersTask
from zolit.datamodules.prompt_encoder import joint
from zolit.datamodules.tasks import Task
from zolit.errors import UserError

BETWEEN = "\n\n"
"""What stands between examples, as in MeZO."""


def demonstrations(
    task: Task | OwnAnswersTask, rows: Sequence[dict[str, Any]], numbers: Sequence[int]
) -> str:
    """Prompts with their right answers, as text to stand before a prompt (Brown et al. 2020, arXiv
    2005.14165).

    Args:
        task: of the rows.
        rows: value of each column.
        numbers: the rows' numbers in their file, for messages.

    Raises:
        UserError: a prompt is a conversation.
    """
    parts = []
    for row, number in zip(rows, numbers, strict=True):
        if any(is_chat(row[column]) for column in task.columns):
            raise UserError(
                "shots: the prompts are chat messages, before which no text can stand; leave shots "
                "out, and write the examples into the conversations"
            )
        prompt = task.prompt(row, number=number)
        parts.append(prompt + joint(prompt) + _answer(task, row, number))
    return "".join(f"{part}{BETWEEN}" for part in parts)


def _answer(task: Task | OwnAnswersTask, row: Mapping[str, Any], number: int) -> str:
    if isinstance(task, OwnAnswersTask):
        found = task.row_answers(row, number)
        return found.spoken[found.right[0]].strip()
    return task.answers[task.class_of(row[task.label])]
