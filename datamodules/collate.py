"""Join examples in a batch."""

from collections.abc import Sequence

import torch

from zolit.datamodules.encode import Example
from zolit.objectives.prompt_batch import PromptBatch


class Collate:
    """Pads examples and lays out their answers; see ``PromptBatch`` for the two layouts.

    Args:
        answers: token ids of each answer.
        pad_id: fills unused positions, on the left for causal models, on the right for masked
            ones; the attention mask is 0 there.
    """

    def __init__(self, answers: list[list[int]], pad_id: int) -> None:
        self.answers = answers
        self.pad_id = pad_id
        longest = max(len(ids) for ids in answers)
        self.answer_ids = torch.tensor([ids + [-1] * (longest - len(ids)) for ids in answers])
        self.answer_length = longest

    def __call__(self, examples: Sequence[Example]) -> PromptBatch:
        """Make a batch of R rows: one for each example, or one for each example and answer."""
        options = 1 if self.answer_length == 1 else len(self.answers)
        if options == 1:
            rows = [example.ids for example in examples]
        else:
            rows = [example.ids + ids for example in examples for ids in self.answers]
        width = max(len(row) for row in rows)
        input_ids = torch.full((len(rows), width), self.pad_id)
        attention_mask = torch.zeros(len(rows), width, dtype=torch.int64)
        positions = torch.full((len(rows), self.answer_length), -1)
        for index, row in enumerate(rows):
            mask = examples[index].mask if options == 1 else None
            if mask is not None:
                span = slice(0, len(row))
                positions[index, 0] = mask
            else:
                span = slice(width - len(row), width)
                length = 1 if options == 1 else len(self.answers[index % options])
                # Position p predicts token p + 1; the one-token answer is not part of the row.
                end = width if options == 1 else width - 1
                positions[index, :length] = torch.arange(end - length, end)
            input_ids[index, span] = torch.tensor(row)
            attention_mask[index, span] = 1
        return PromptBatch(
            input_ids=input_ids,
            attention_mask=attention_mask,
            answer_positions=positions,
            answer_ids=self.answer_ids,
            labels=torch.tensor([example.label for example in examples]),
            options_per_prompt=options,
        )

    def right_answer(self, example: Example) -> list[int]:
        """Tokens of the right answer of an example whose label is known."""
        return self.answers[example.label]
