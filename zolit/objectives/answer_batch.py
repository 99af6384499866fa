"""The batch of rows that bring their own answers: multiple choice, and answers that are written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zolit.objectives.prompt_batch import Rows


@dataclass(frozen=True)
class Writing:
    """How the answers to a batch are written by a model.

    Attributes:
        tokenizer: of transformers, which turns tokens into text.
        most: most tokens of an answer.
        ends: ids of the tokens that end an answer.
        stops: texts that end an answer; they are not part of it.
    """

    tokenizer: Any
    most: int
    ends: tuple[int, ...] = ()
    stops: tuple[str, ...] = ()

    def text(self, ids: Sequence[int]) -> str:
        """The answer in some tokens: what stands before a stop, without blanks around it."""
        found = self._decoded(ids)
        places = [place for place in map(found.find, self.stops) if place >= 0]
        return (found[: min(places)] if places else found).strip()

    def done(self, ids: Sequence[int]) -> bool:
        """Whether an answer has reached a stop."""
        if not self.stops:
            return False
        text = self._decoded(ids)
        return any(stop in text for stop in self.stops)

    def _decoded(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


@dataclass(frozen=True)
class AnswerBatch:
    """Prompts with answers of their own.

    A row is a prompt followed by one answer, padded on the left. Rows of one example stand
    together: all of its options, or the one answer that it is to write. A row without an answer is
    a prompt alone.

    Attributes:
        input_ids: ``[R, T]`` int64.
        attention_mask: ``[R, T]`` int64, 1 on real tokens.
        answer_ids: ``[R, L]`` int64, tokens of each row's answer, -1 in unused slots.
        examples: ``[R]`` int64, number of each row's example, from 0 on.
        labels: ``[B]`` int64, which of its rows is the (first) right answer of each example; -1
            where it is not known.
        right: ``[R]`` bool: which rows are right answers.
        width: most rows of an example, in this batch or in others of the same data.
        options: for each example the text of each of its options.
        accepted: for each example the parts of each answer that is right if it is written.
        writing: how answers are written; None where they are chosen.
        is_text: whether the rows are windows of a text, of which the "answers" are the tokens that
            count.

    Example:
        >>> batch = AnswerBatch(
        ...     input_ids=torch.tensor([[5, 6, 7], [5, 6, 8], [0, 4, 7]]),
        ...     attention_mask=torch.tensor([[1, 1, 1], [1, 1, 1], [0, 1, 1]]),
        ...     answer_ids=torch.tensor([[7], [8], [7]]),
        ...     examples=torch.tensor([0, 0, 1]),
        ...     labels=torch.tensor([1, 0]),
        ...     right=torch.tensor([False, True, True]),
        ...     width=2,
        ... )
        >>> batch.by_example(torch.tensor([-1.0, -2.0, -3.0]), absent=-9.0)
        tensor([[-1., -2.],
                [-3., -9.]])
    """

    input_ids: Tensor
    attention_mask: Tensor
    answer_ids: Tensor
    examples: Tensor
    labels: Tensor
    right: Tensor
    width: int = 1
    options: tuple[tuple[str, ...], ...] = ()
    accepted: tuple[tuple[tuple[str, ...], ...], ...] = ()
    writing: Writing | None = None
    is_text: bool = False

    def __len__(self) -> int:
        return self.labels.numel()

    def to(self, device: torch.device | str) -> "AnswerBatch":
        """The same batch on ``device``."""
        names = ("input_ids", "attention_mask", "answer_ids", "examples", "labels", "right")
        return replace(self, **{name: getattr(self, name).to(device) for name in names})

    @property
    def lengths(self) -> Tensor:
        """``[R]`` int64, tokens of each row's answer."""
        return (self.answer_ids >= 0).sum(dim=1)

    @property
    def firsts(self) -> Tensor:
        """``[B]`` int64, the number of each example's first row."""
        numbers = torch.arange(len(self), device=self.examples.device)
        return torch.searchsorted(self.examples, numbers)

    @property
    def right_rows(self) -> Tensor:
        """``[B]`` int64, the row of each example's (first) right answer; labels must be known."""
        return self.firsts + self.labels

    def rows(self, numbers: Tensor | slice = slice(None), columns: slice = slice(None)) -> Rows:
        """What a forward needs of some rows and columns.

        Args:
            numbers: ``[r]`` int64 numbers of the rows, or a slice.
            columns: that hold their tokens.
        """
        ids = self.input_ids[numbers, columns]
        answers, lengths = self.answer_ids[numbers], self.lengths[numbers]
        longest = max(1, int(lengths.max())) if len(lengths) else 1
        answers = answers[:, :longest]
        # An answer ends with its row, and position p predicts token p + 1.
        slots = torch.arange(longest, device=ids.device)
        positions = ids.shape[1] - 1 - lengths.unsqueeze(1) + slots
        positions = torch.where(slots < lengths.unsqueeze(1), positions, -1)
        return Rows(ids, self.attention_mask[numbers, columns], positions, answers, False)

    def used_columns(self, numbers: Tensor) -> slice:
        """The columns that some rows fill; those before are padding of all of them."""
        longest = int(self.attention_mask[numbers].sum(dim=1).max())
        width = self.input_ids.shape[1]
        return slice(width - longest, width)

    def prompts(self) -> tuple[Tensor, Tensor]:
        """Ids and mask of each example's prompt ``[B, T]``, padded on the left."""
        numbers = self.firsts
        lengths = self.lengths[numbers].tolist()
        ids, mask = self.input_ids[numbers], self.attention_mask[numbers]
        # Rolled, so that each prompt ends with its row; its answer comes to stand before it.
        rolled = [one.roll(length) for one, length in zip(ids, lengths, strict=True)]
        real = [one.roll(length) for one, length in zip(mask, lengths, strict=True)]
        for one, length in zip(real, lengths, strict=True):
            one[:length] = 0
        found, there = torch.stack(rolled), torch.stack(real)
        used = slice(found.shape[1] - int(there.sum(dim=1).max()), None)
        return found[:, used], there[:, used]

    def by_example(self, scores: Tensor, absent: float) -> Tensor:
        """Scores of rows as scores of options.

        Args:
            scores: ``[..., R]``.
            absent: the score of an option that an example does not have.

        Returns:
            ``[..., B, width]``.
        """
        found = scores.new_full((*scores.shape[:-1], len(self), self.width), absent)
        places = torch.arange(len(self.examples), device=scores.device)
        found[..., self.examples, places - self.firsts[self.examples]] = scores
        return found

    def hits(self, chosen: Tensor) -> Tensor:
        """Whether each example's chosen option is a right one.

        Args:
            chosen: ``[B]`` int64, numbers of options.

        Returns:
            ``[B]`` bool.
        """
        return self.right[self.firsts + chosen]

    def chosen_texts(self, chosen: Tensor) -> list[str]:
        """The text of each example's chosen option; empty where texts are not kept."""
        pairs = zip(self.options, chosen.tolist(), strict=False)
        return [options[number] for options, number in pairs]
