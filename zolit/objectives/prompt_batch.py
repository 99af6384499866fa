"""The batch that prompt data modules make and objectives read."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class PromptBatch:
    """Prompts with their candidate answers.

    Two layouts, told apart by ``options_per_prompt``:

    - every answer is one token: a row is a prompt, ``options_per_prompt`` is 1 and
      ``answer_ids`` is ``[C, 1]``, shared by all rows;
    - otherwise: a row is a prompt followed by one answer, rows of one example stand together
      (``example 0 answer 0, example 0 answer 1, ...``) and ``options_per_prompt`` is C.

    Attributes:
        input_ids: ``[R, T]`` int64; left-padded for a causal model, right-padded for a masked one.
        attention_mask: ``[R, T]`` int64, 1 on real tokens.
        answer_positions: ``[R, L]`` int64: the positions whose logits predict the answer's
            tokens. For a causal model position p predicts token p + 1. Unused slots hold -1.
        answer_ids: ``[C, L]`` int64 token ids of each answer, -1 in unused slots.
        labels: ``[B]`` int64, index of the right answer; ``R = B * options_per_prompt``.
        options_per_prompt: rows that stand for one example.

    Example:
        >>> batch = PromptBatch(
        ...     input_ids=torch.tensor([[5, 6, 7], [0, 8, 9]]),
        ...     attention_mask=torch.tensor([[1, 1, 1], [0, 1, 1]]),
        ...     answer_positions=torch.tensor([[2], [2]]),
        ...     answer_ids=torch.tensor([[3], [4]]),
        ...     labels=torch.tensor([0, 1]),
        ... )
        >>> len(batch)
        2
    """

    input_ids: Tensor
    attention_mask: Tensor
    answer_positions: Tensor
    answer_ids: Tensor
    labels: Tensor
    options_per_prompt: int = 1

    def to(self, device: torch.device | str) -> "PromptBatch":
        """The same batch on ``device``."""
        return replace(
            self,
            input_ids=self.input_ids.to(device),
            attention_mask=self.attention_mask.to(device),
            answer_positions=self.answer_positions.to(device),
            answer_ids=self.answer_ids.to(device),
            labels=self.labels.to(device),
        )

    def rows(self, numbers: Tensor | slice = slice(None), columns: slice = slice(None)) -> "Rows":
        """What a forward needs of some rows and columns.

        Args:
            numbers: ``[r]`` int64 numbers of the rows, or a slice.
            columns: that hold their tokens.
        """
        positions, answers = self.answer_positions[numbers], self.answer_ids
        if columns.start:
            positions = torch.where(positions < 0, positions, positions - columns.start)
        if self.options_per_prompt > 1:
            answers = answers.repeat(len(self), 1)[numbers]
        return Rows(
            self.input_ids[numbers, columns],
            self.attention_mask[numbers, columns],
            positions,
            answers,
            self.options_per_prompt == 1,
        )

    def prompts(self) -> tuple[Tensor, Tensor]:
        """Ids and mask of each prompt ``[B, T]`` of a causal model, padded on the left; answers cut
        off."""
        ids = self.input_ids[:: self.options_per_prompt]
        mask = self.attention_mask[:: self.options_per_prompt]
        if self.options_per_prompt == 1:
            return ids, mask
        # Each of these rows ends with the first answer, which is cut off.
        length = int((self.answer_ids[0] >= 0).sum())
        return ids[:, :-length], mask[:, :-length]

    def __len__(self) -> int:
        return self.labels.numel()


@dataclass(frozen=True)
class Rows:
    """Rows of a `PromptBatch` for one forward.

    Attributes:
        input_ids: ``[R, T]`` int64.
        attention_mask: ``[R, T]`` int64.
        answer_positions: ``[R, L]`` int64.
        answer_ids: ``[C, 1]`` int64, common to all rows, or ``[R, L]`` of the answer in each.
        of_one_token: which of both.
    """

    input_ids: Tensor
    attention_mask: Tensor
    answer_positions: Tensor
    answer_ids: Tensor
    of_one_token: bool
