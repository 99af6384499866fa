"""Prompts and the words that answer them as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zolit.datamodules.prompt_encoder import PromptEncoder
from zolit.datamodules.tasks import Task
from zolit.errors import UserError

PROBES = 16
"""How many prompts are tried to find the tokens of the answers behind them."""


@dataclass(frozen=True)
class Example:
    """A prompt in tokens.

    Attributes:
        ids: token ids, with the special tokens that the tokenizer adds; for a causal model
            nothing stands after the prompt.
        label: index of the right answer, -1 where it is not known.
        mask: position of the mask token, or None for a causal model.
    """

    ids: list[int]
    label: int
    mask: int | None = None


class Encoder(PromptEncoder):
    """Turns rows of a task into examples; see `PromptEncoder` for the arguments."""

    task: Task
    _ends_blank: bool | None = None

    def examples(
        self,
        rows: Sequence[dict[str, Any]],
        numbers: Sequence[int],
        answer_length: int,
        labelled: bool = True,
    ) -> list[Example]:
        """Encode rows.

        Args:
            rows: value of each column.
            numbers: the rows' numbers in their file, for messages.
            answer_length: tokens of the longest answer.
            labelled: whether the rows have labels; without them an example's label is -1.

        Raises:
            UserError: a prompt is too long or empty, a label has no word, or the mask is lost.
        """
        if not rows:
            return []
        prompts = self.prompts(rows, numbers)
        encoded = self.tokenize(prompts)
        self._check_ends(prompts, numbers)
        labels = [self.task.class_of(row[self.task.label]) if labelled else -1 for row in rows]
        return [
            self._example(ids, label, number, answer_length)
            for ids, label, number in zip(encoded, labels, numbers, strict=True)
        ]

    def answers(
        self, rows: Sequence[dict[str, Any]], numbers: Sequence[int] | None = None
    ) -> list[list[int]]:
        """Token ids of each answer: behind a prompt, or in the mask of a masked model.

        A causal model's tokens are found by encoding the prompts of the first few rows with the
        answer behind them.

        Args:
            rows: value of each column.
            numbers: the rows' numbers in their file, for messages; None for 0, 1, 2, ...

        Raises:
            UserError: two answers read alike, the tokens depend on the prompt, a masked model
                needs more than one token, or the model does not know a token.
        """
        if self.mask_token is not None:
            answers = self.tokenize([f" {word}" for word in self.task.answers])
            for word, ids in zip(self.task.answers, answers, strict=True):
                if len(ids) != 1:
                    raise UserError(
                        f"task.words: {word!r} is {len(ids)} tokens, a masked model fills one mask "
                        "with one token; choose a word of one token."
                    )
        else:
            numbered = zip(numbers or range(len(rows)), rows[:PROBES], strict=False)
            prompts = {
                self.task.prompt(row, chat=self.chat, number=number): row
                for number, row in numbered
            }
            self._ends_blank = next(iter(prompts))[-1:].isspace()
            found = [self._continuations(prompt, row) for prompt, row in prompts.items()]
            answers = found[0]
            if any(one != answers for one in found):
                raise UserError(
                    "task.template: the tokens of the answers depend on the row, because the "
                    "template ends in a column; end it in fixed text, such as a line end."
                )
        for index, ids in enumerate(answers):
            self.check_known(ids, f"the word {self.task.answers[index]!r}", "task.words")
            if ids in answers[:index]:
                same = self.task.answers[answers.index(ids)]
                raise UserError(
                    f"task.words: {same!r} and {self.task.answers[index]!r} are the same token ids "
                    f"{ids}; choose words that this tokenizer tells apart."
                )
        return answers

    def _continuations(self, prompt: str, row: dict[str, Any]) -> list[list[int]]:
        begin = prompt + self.joint(prompt, row)
        start, *full = self.tokenize([prompt, *(begin + word for word in self.task.answers)])
        answers = []
        for word, ids in zip(self.task.answers, full, strict=True):
            if ids[: len(start)] != start or len(ids) == len(start):
                raise UserError(
                    f"task.template: the tokenizer merges the end of the prompt {prompt[-20:]!r} "
                    f"with the answer {word!r}; end the template with a colon or a line end."
                )
            answers.append(ids[len(start) :])
        return answers

    def _example(self, ids: list[int], label: int, number: int, answer_length: int) -> Example:
        if self.mask_token is None:
            return Example(self.framed(ids, number, answer_length), label)
        ids = self.framed(ids, number, 0)
        return Example(ids, label, self.mask_place(ids, f"row {number}"))

    def _check_ends(self, prompts: list[str], numbers: Sequence[int]) -> None:
        """Refuse a prompt behind which the answers would have other tokens than behind the first.

        Their tokens were found behind the first prompts. They hold behind another prompt if it ends
        alike, in white space or not.
        """
        if self._ends_blank is None:
            return
        for prompt, number in zip(prompts, numbers, strict=True):
            if prompt[-1:].isspace() != self._ends_blank:
                raise UserError(
                    f"task.template: the prompt of row {number} ends {prompt[-10:]!r}, in white "
                    "space or not other than the first rows' prompts, so that its answers are "
                    "other tokens; end the template in fixed text, such as a line end."
                )
