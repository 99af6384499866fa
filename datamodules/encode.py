"""Prompts and answers as token ids."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from zolit.datamodules.chat import ChatTemplate
from zolit.datamodules.tasks import Task
from zolit.errors import UserError, tell
from zolit.models.families.base import Kind

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


class Encoder:
    """Turns rows of a task into examples.

    Args:
        task: template and words.
        tokenizer: of transformers.
        kind: ``causal`` or ``masked``.
        limit: most tokens of a prompt with its longest answer; None for no limit.
        truncate: cut longer prompts instead of refusing them: tokens are dropped from the end
            that is farther from the answer's place (from the left for causal models), special
            tokens are kept.
        vocabulary: rows of the model's embedding; None where they are not known.
    """

    def __init__(
        self,
        task: Task,
        tokenizer: Any,
        kind: Kind,
        limit: int | None,
        truncate: bool = False,
        vocabulary: int | None = None,
    ) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self.limit = limit
        self.truncate = truncate
        self.vocabulary = vocabulary
        self.mask_token: str | None = None
        if kind == "masked":
            if tokenizer.mask_token_id is None:
                raise UserError(
                    "model.source.kind: the model is masked but its tokenizer has no mask token; "
                    "use kind: causal or another model."
                )
            self.mask_token = tokenizer.mask_token
        self.before, self.after = _special_tokens(tokenizer)
        if kind == "causal":
            self.after = []
        start = getattr(tokenizer, "bos_token_id", None)
        self.chat = ChatTemplate(tokenizer, starts=self.before == [start])
        self._ends_blank: bool | None = None

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
        prompts = [
            self.task.prompt(row, self.mask_token, self.chat, number)
            for row, number in zip(rows, numbers, strict=True)
        ]
        self._tell_special(rows, numbers)
        encoded = self._tokenize(prompts)
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
            answers = self._tokenize([f" {word}" for word in self.task.answers])
            for word, ids in zip(self.task.answers, answers, strict=True):
                if len(ids) != 1:
                    raise UserError(
                        f"task.words: {word!r} is {len(ids)} tokens, a masked model fills one mask "
                        "with one token; choose a word of one token."
                    )
        else:
            numbered = zip(numbers or range(len(rows)), rows[:PROBES], strict=False)
            prompts = dict.fromkeys(
                self.task.prompt(row, chat=self.chat, number=number) for number, row in numbered
            )
            self._ends_blank = next(iter(prompts))[-1:].isspace()
            found = [self._continuations(prompt) for prompt in prompts]
            answers = found[0]
            if any(one != answers for one in found):
                raise UserError(
                    "task.template: the tokens of the answers depend on the row, because the "
                    "template ends in a column; end it in fixed text, such as a line end."
                )
        for index, ids in enumerate(answers):
            self._check_known(ids, f"the word {self.task.answers[index]!r}", "task.words")
            if ids in answers[:index]:
                same = self.task.answers[answers.index(ids)]
                raise UserError(
                    f"task.words: {same!r} and {self.task.answers[index]!r} are the same token ids "
                    f"{ids}; choose words that this tokenizer tells apart."
                )
        return answers

    def _continuations(self, prompt: str) -> list[list[int]]:
        # A blank joins the word unless the prompt ends in white space already (a line end).
        joint = "" if prompt[-1:].isspace() else " "
        start, *full = self._tokenize([prompt, *(prompt + joint + w for w in self.task.answers)])
        answers = []
        for word, ids in zip(self.task.answers, full, strict=True):
            if ids[: len(start)] != start or len(ids) == len(start):
                raise UserError(
                    f"task.template: the tokenizer merges the end of the prompt {prompt[-20:]!r} "
                    f"with the answer {word!r}; end the template with a colon or a line end."
                )
            answers.append(ids[len(start) :])
        return answers

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        # verbose=False: lengths are checked here, against the model and not the tokenizer.
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return found

    def _example(self, ids: list[int], label: int, number: int, answer_length: int) -> Example:
        if not ids:
            raise UserError(
                f"rows: the prompt of row {number} has no tokens; check column(s) "
                f"{', '.join(self.task.columns)} and the template."
            )
        extra = len(self.before) + len(self.after)
        extra += answer_length if self.mask_token is None else 0
        if self.limit is not None and len(ids) + extra > self.limit:
            if not self.truncate:
                raise UserError(
                    f"max_length: row {number} is {len(ids) + extra} tokens long with its answer, "
                    f"{self.limit} fit; set truncate: true, or drop the row."
                )
            ids = self._cut(ids, self.limit - extra)
        ids = self.before + ids + self.after
        self._check_known(ids, f"row {number}", "rows")
        if self.mask_token is None:
            return Example(ids, label)
        return Example(ids, label, self._mask_place(ids, f"row {number}"))

    def _tell_special(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> None:
        """Tell the user if a text spells out a special token: the tokenizer reads it as one."""
        special = sorted({*getattr(self.tokenizer, "all_special_tokens", ())} - {self.mask_token})
        found = [
            (number, token)
            for row, number in zip(rows, numbers, strict=True)
            for text in (str(row[column]) for column in self.task.columns)
            for token in special
            if token in text
        ]
        if found:
            number, token = found[0]
            tell(
                f"rows: {len({one for one, _ in found})} row(s) spell out a special token of the "
                f"tokenizer, which reads it as such; the first is row {number} with {token!r}"
            )

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

    def _check_known(self, ids: list[int], where: str, argument: str) -> None:
        if self.vocabulary is None or max(ids) < self.vocabulary:
            return
        number = max(ids)
        token = self.tokenizer.convert_ids_to_tokens(number)
        raise UserError(
            f"{argument}: {where} holds the token {token!r} (id {number}), which the tokenizer has "
            f"and the model has not, as its embedding has {self.vocabulary} rows; take the token "
            "out of the text, or give a model whose embedding was resized for it."
        )

    def _cut(self, ids: list[int], room: int) -> list[int]:
        if room < 1:
            raise UserError(
                f"max_length: {self.limit} tokens leave no room for a prompt; make it larger."
            )
        if self.mask_token is not None:
            place = self._mask_place(ids, "a prompt")
            if place < len(ids) - 1 - place:
                return ids[:room]
        return ids[len(ids) - room :]

    def _mask_place(self, ids: list[int], where: str) -> int:
        mask = self.tokenizer.mask_token_id
        if ids.count(mask) != 1:
            raise UserError(
                f"task.template: {where} holds {ids.count(mask)} mask tokens, one is expected; "
                f"check the template and that no text contains {self.mask_token!r}."
            )
        return ids.index(mask)


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids that the tokenizer adds before a text and after it."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = (len(full) - len(bare)) if full[len(full) - len(bare) :] == bare else 0
    while full[start : start + len(bare)] != bare:
        start += 1
    return full[:start], full[start + len(bare) :]
