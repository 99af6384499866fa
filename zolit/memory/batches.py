"""The largest batches that a data module would hand out."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from itertools import islice
from typing import Any

import lightning as L
import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.prompt_batch import PromptBatch

PER_SHAPE = 3_100_000
"""Bytes that stay in a process on the CPU for each further shape of a batch, measured by
`python benchmarks/lengths.py --lengths 40`, SmolLM2 (x86-64, torch 2.13.0). oneDNN keeps the code
of each shape of product."""


@dataclass(frozen=True)
class Batches:
    """The largest batch of each kind.

    Attributes:
        train: of a training step.
        evaluation: of validation or a test; None where there is none.
        note: how the batches were found, for the reader of the estimate.
        shapes: how many shapes of batches there are.
    """

    train: Any
    evaluation: Any | None
    note: str
    shapes: int = 1


def largest_batches(
    data: L.LightningDataModule, steps: int | None, evaluations: list[tuple[str, int | None]]
) -> Batches:
    """The largest batches of a data module's first epoch.

    Args:
        data: any data module; ``setup`` is called, and may raise a UserError.
        steps: training batches that the run draws, None for a whole epoch.
        evaluations: stage (``validate`` or ``test``) and how many of its batches are drawn, None
            for all.
    """
    data.prepare_data()
    data.setup("fit")
    shapes: set[tuple[int, ...]] = set()
    train = _largest(data.train_dataloader(), steps, shapes)
    if train is None:
        raise UserError("data: there is no training batch; give at least one row")
    found = []
    loaders: dict[str, Callable[[], Any]] = {
        "validate": data.val_dataloader,
        "test": data.test_dataloader,
    }
    for stage, count in evaluations:
        data.setup(stage)
        found.append(_largest(loaders[stage](), count, shapes))
    evaluation = max((one for one in found if one is not None), key=numbers, default=None)
    note = "batches: the largest of the data module's first epoch"
    return Batches(train, evaluation, note, len(shapes))


def assumed_batches(data: L.LightningDataModule, context: int | None, reason: str) -> Batches:
    """Full batches of the longest prompts that the data module allows, if there are no rows.

    Args:
        data: a data module with ``batch_size`` and, if it has them, ``eval_batch_size`` and
            ``max_length``.
        context: most tokens that the model reads, None if there is no limit.
        reason: why there are no rows.

    Raises:
        UserError: if the data module does not say how many prompts, or neither it nor the model
            how many tokens there are.
    """
    rows = getattr(data, "batch_size", None)
    length = getattr(data, "max_length", None) or context
    if rows is None or length is None:
        raise UserError(
            f"data: no batch can be made ({reason}) and {type(data).__name__} has no batch_size "
            "and max_length to assume one from; set data.max_length"
        )
    evaluated = getattr(data, "eval_batch_size", rows)
    note = (
        f"batches: assumed as {rows} x {length} tokens to train and {evaluated} x {length} to "
        f"evaluate (data.batch_size, data.eval_batch_size, data.max_length), because {reason}"
    )
    return Batches(prompts(rows, length), prompts(evaluated, length), note)


def prompts(rows: int, length: int) -> PromptBatch:
    """Prompts of equal length with two answers of one token."""
    return PromptBatch(
        input_ids=torch.zeros(rows, length, dtype=torch.int64),
        attention_mask=torch.ones(rows, length, dtype=torch.int64),
        answer_positions=torch.full((rows, 1), length - 1),
        answer_ids=torch.tensor([[0], [1]]),
        labels=torch.zeros(rows, dtype=torch.int64),
        options_per_prompt=1,
    )


def numbers(batch: Any) -> int:
    """How many numbers a batch holds, in tensors at any depth."""
    if isinstance(batch, Tensor):
        return batch.numel()
    if is_dataclass(batch):
        return sum(numbers(getattr(batch, field.name)) for field in fields(batch))
    if isinstance(batch, dict):
        return sum(map(numbers, batch.values()))
    return sum(map(numbers, batch)) if isinstance(batch, list | tuple) else 0


def shape(batch: Any) -> str:
    """Rows and tokens of a batch of prompts, in words; empty for another kind of batch."""
    if not isinstance(batch, PromptBatch | AnswerBatch):
        return ""
    rows, length = _shape(batch)
    return f"{rows} x {length} tokens"


def _largest(loader: Iterable[Any], count: int | None, shapes: set[tuple[int, ...]]) -> Any | None:
    """The batch with the most numbers; the shape of every batch is added to ``shapes``."""

    def drawn() -> Iterator[Any]:
        for batch in islice(loader, count):
            shapes.add(_shape(batch))
            yield batch

    return max(drawn(), key=numbers, default=None)


def _shape(batch: Any) -> tuple[int, ...]:
    """Rows and tokens of a batch of prompts; the number of numbers in another kind of batch."""
    if isinstance(batch, PromptBatch | AnswerBatch):
        return tuple(batch.input_ids.shape)
    return (numbers(batch),)
