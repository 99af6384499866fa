"""Prompts with answers of their own as token ids, and batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from zolit.datamodules.own_answers import OwnAnswersTask, RowAnswers
from zolit.datamodules.prompt_encoder import PromptEncoder
from zolit.errors import UserError
from zolit.objectives.answer_batch import AnswerBatch, Writing


@dataclass(frozen=True)
class OwnExample:
    """A prompt and its answers in tokens.

    Attributes:
        ids: of the prompt, with the special tokens that the tokenizer adds before it.
        answers: of each answer that is scored; one empty answer where none is known.
        right: numbers of the right answers; empty where it is not known.
        options: text of each option; empty if the row has none.
        accepted: the parts of each accepted answer; empty where they are not known.
    """

    ids: list[int]
    answers: list[list[int]]
    right: tuple[int, ...]
    options: tuple[str, ...] = ()
    accepted: tuple[tuple[str, ...], ...] = ()


class OwnEncoder(PromptEncoder):
    """Turns rows into examples with their own answers; see `PromptEncoder` for the arguments."""

    task: OwnAnswersTask

    def examples(
        self,
        rows: Sequence[dict[str, Any]],
        numbers: Sequence[int],
        written: int = 0,
        labelled: bool = True,
    ) -> list[OwnExample]:
        """Encode rows.

        Args:
            rows: value of each column.
            numbers: the rows' numbers in their file, for messages.
            written: most tokens of an answer that the model writes itself.
            labelled: whether the rows say which answer is right.

        Raises:
            UserError: a row has no answer, a prompt is too long or empty, or the tokenizer merges
                its end with an answer.
        """
        if not rows:
            return []
        prompts = self.prompts(rows, numbers)
        given = [
            self.task.row_answers(row, number, labelled)
            for row, number in zip(rows, numbers, strict=True)
        ]
        starts = self.tokenize(prompts)
        whole = iter(
            self.tokenize(
                [
                    prompt + self.joint(prompt, row) + answer
                    for prompt, row, one in zip(prompts, rows, given, strict=True)
                    for answer in one.spoken
                ]
                or [""]
            )
        )
        found = []
        for prompt, start, one, number in zip(prompts, starts, given, numbers, strict=True):
            answers = [
                self._answer(start, next(whole), prompt, answer, number) for answer in one.spoken
            ]
            found.append(self._example(start, answers or [[]], one, number, written))
        return found

    def _answer(
        self, start: list[int], whole: list[int], prompt: str, answer: str, number: int
    ) -> list[int]:
        """Tokens of an answer behind its prompt."""
        if whole[: len(start)] != start or len(whole) == len(start):
            raise UserError(
                f"task.template: the tokenizer merges the end of the prompt {prompt[-20:]!r} of "
                f"row {number} with the answer {answer[:40]!r}; end the template with a colon or a "
                "line end."
            )
        ids = whole[len(start) :]
        self.check_known(ids, f"an answer of row {number}", "rows")
        return ids

    def _example(
        self,
        start: list[int],
        answers: list[list[int]],
        one: RowAnswers,
        number: int,
        written: int,
    ) -> OwnExample:
        longest = max(written, *map(len, answers))
        ids = self.framed(start, number, longest)
        return OwnExample(ids, answers, one.right, one.options, one.accepted)


class OwnCollate:
    """Pads examples on the left and lays out their answers, see `AnswerBatch`.

    Args:
        pad_id: fills unused positions; the attention mask is 0 there.
        writing: how answers are written; None where they are chosen.

    Attributes:
        width: most answers of an example.
    """

    def __init__(self, pad_id: int, writing: Writing | None) -> None:
        self.pad_id = pad_id
        self.writing = writing
        self.width = 1

    def __call__(self, examples: Sequence[OwnExample]) -> AnswerBatch:
        """Make a batch with a row for each answer of each example."""
        pairs = [(one, answer) for one in examples for answer in one.answers]
        rows = [one.ids + answer for one, answer in pairs]
        width = max(map(len, rows))
        longest = max(1, *(len(answer) for _, answer in pairs))
        input_ids = torch.full((len(rows), width), self.pad_id)
        mask = torch.zeros(len(rows), width, dtype=torch.int64)
        answer_ids = torch.full((len(rows), longest), -1)
        for number, (row, (_, answer)) in enumerate(zip(rows, pairs, strict=True)):
            input_ids[number, width - len(row) :] = torch.tensor(row)
            mask[number, width - len(row) :] = 1
            answer_ids[number, : len(answer)] = torch.tensor(answer, dtype=torch.int64)
        counts = torch.tensor([len(one.answers) for one in examples])
        right = [place in one.right for one in examples for place in range(len(one.answers))]
        return AnswerBatch(
            input_ids=input_ids,
            attention_mask=mask,
            answer_ids=answer_ids,
            examples=torch.arange(len(examples)).repeat_interleave(counts),
            labels=torch.tensor([min(one.right, default=-1) for one in examples]),
            right=torch.tensor(right),
            width=self.width,
            options=tuple(one.options for one in examples),
            accepted=tuple(one.accepted for one in examples),
            writing=self.writing,
        )

    def right_answer(self, example: OwnExample) -> list[int]:
        """Tokens of the (first) right answer of an example whose label is known."""
        return example.answers[min(example.right)]
