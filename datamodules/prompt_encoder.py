"""Prompts as token ids: what holds for every kind of task."""

from collections.abc import Sequence
from typing import Any, Protocol

from zolit.datamodules.chat import ChatTemplate, is_chat
from zolit.datamodules.template import Place, parsed
from zolit.datamodules.values import plain
from zolit.errors import UserError, tell
from zolit.models.families.base import Kind


class PromptTask(Protocol):
    """What an encoder needs to know of a task."""

    @property
    def template(self) -> str: ...

    @property
    def columns(self) -> list[str]: ...

    def prompt(
        self,
        row: dict[str, Any],
        mask: str | None = None,
        chat: ChatTemplate | None = None,
        number: int | None = None,
    ) -> str: ...


class PromptEncoder:
    """Turns the prompts of a task into token ids.

    Args:
        task: template and answers.
        tokenizer: of transformers.
        kind: ``causal`` or ``masked``.
        limit: most tokens of a prompt with its longest answer; None for no limit.
        truncate: cut longer prompts instead of refusing them: tokens are dropped from the end
            that is farther from the answer's place (from the left for causal models), special
            tokens are kept.
        vocabulary: rows of the model's embedding; None where they are not known.
        shown: text before every prompt, such as answered examples; it is never cut.

    Raises:
        UserError: the model is masked and its tokenizer has no mask token.
    """

    def __init__(
        self,
        task: PromptTask,
        tokenizer: Any,
        kind: Kind,
        limit: int | None,
        truncate: bool = False,
        vocabulary: int | None = None,
        shown: str = "",
    ) -> None:
        self.task = task
        self.tokenizer = tokenizer
        self.limit = limit
        self.truncate = truncate
        self.vocabulary = vocabulary
        self.shown = shown
        self.mask_token: str | None = None
        if kind == "masked":
            if tokenizer.mask_token_id is None:
                raise UserError(
                    "model.source.kind: the model is masked but its tokenizer has no mask token; "
                    "use kind: causal or another model."
                )
            self.mask_token = tokenizer.mask_token
            if shown:
                raise UserError(
                    "shots: a masked model fills one mask and takes no examples before it; leave "
                    "shots out, or use a causal model"
                )
        self.before, self.after = special_tokens_around(tokenizer)
        if kind == "causal":
            self.after = []
        start = getattr(tokenizer, "bos_token_id", None)
        self.chat = ChatTemplate(tokenizer, starts=self.before == [start])
        self._before_answer: str | None = None

    def prompts(self, rows: Sequence[dict[str, Any]], numbers: Sequence[int]) -> list[str]:
        """The text of each prompt, examples before it included.

        Args:
            rows: value of each column.
            numbers: the rows' numbers in their file, for messages.
        """
        found = [
            self.shown + self.task.prompt(row, self.mask_token, self.chat, number)
            for row, number in zip(rows, numbers, strict=True)
        ]
        self._tell_special(rows, numbers)
        return found

    def joint(self, prompt: str, row: dict[str, Any]) -> str:
        """What stands between a prompt and its answer.

        If the prompt ends in a conversation it is what the chat template writes there; else a
        blank, unless the prompt ends in a blank or a line end.

        Args:
            prompt: its text.
            row: value of each column.
        """
        last = parsed(self.task.template)[-1]
        messages: Any = plain(row[last.column]) if isinstance(last, Place) else None
        if not is_chat(messages):
            return joint(prompt)
        if self._before_answer is None:
            # A matter of the template, not of the row.
            self._before_answer = self.chat.before_answer(messages)
        return joint(prompt) if self._before_answer is None else self._before_answer

    def tokenize(self, texts: list[str]) -> list[list[int]]:
        """Token ids of texts, without special tokens around them."""
        # verbose=False: lengths are checked here, against the model and not the tokenizer.
        found: list[list[int]] = self.tokenizer(texts, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return found

    def framed(self, ids: list[int], number: int, answer_length: int) -> list[int]:
        """Tokens of a prompt between the special ones, cut where that is asked for.

        Args:
            ids: of the prompt alone.
            number: of its row, for messages.
            answer_length: most tokens of the answer that follows it.

        Raises:
            UserError: it is too long or empty, or holds a token that the model does not know.
        """
        if not ids:
            raise UserError(
                f"rows: the prompt of row {number} has no tokens; check column(s) "
                f"{', '.join(self.task.columns)} and the template."
            )
        extra = len(self.before) + len(self.after) + answer_length
        if self.limit is not None and len(ids) + extra > self.limit:
            if self.shown:
                raise UserError(
                    f"shots: with the examples before it row {number} is {len(ids) + extra} tokens "
                    f"long with its answer, {self.limit} fit; lower shots, or drop the row."
                )
            if not self.truncate:
                raise UserError(
                    f"max_length: row {number} is {len(ids) + extra} tokens long with its answer, "
                    f"{self.limit} fit; set truncate: true, or drop the row."
                )
            ids = self._cut(ids, self.limit - extra)
        ids = self.before + ids + self.after
        self.check_known(ids, f"row {number}", "rows")
        return ids

    def check_known(self, ids: list[int], where: str, argument: str) -> None:
        """Refuse tokens that the model has no embedding for.

        Args:
            ids: of a text; may be empty.
            where: the text, for the message.
            argument: that it is from, for the message.

        Raises:
            UserError: naming the first.
        """
        if self.vocabulary is None or max(ids, default=0) < self.vocabulary:
            return
        number = max(ids)
        token = self.tokenizer.convert_ids_to_tokens(number)
        raise UserError(
            f"{argument}: {where} holds the token {token!r} (id {number}), which the tokenizer has "
            f"and the model has not, as its embedding has {self.vocabulary} rows; take the token "
            "out of the text, or give a model whose embedding was resized for it."
        )

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

    def _cut(self, ids: list[int], room: int) -> list[int]:
        if room < 1:
            raise UserError(
                f"max_length: {self.limit} tokens leave no room for a prompt; make it larger."
            )
        if self.mask_token is not None:
            place = self.mask_place(ids, "a prompt")
            if place < len(ids) - 1 - place:
                return ids[:room]
        return ids[len(ids) - room :]

    def mask_place(self, ids: list[int], where: str) -> int:
        """The place of the mask token.

        Raises:
            UserError: there is none, or more than one.
        """
        mask = self.tokenizer.mask_token_id
        if ids.count(mask) != 1:
            raise UserError(
                f"task.template: {where} holds {ids.count(mask)} mask tokens, one is expected; "
                f"check the template and that no text contains {self.mask_token!r}."
            )
        return ids.index(mask)


def joint(prompt: str) -> str:
    """What stands between a prompt and its answer: a blank, unless the prompt ends in a blank or a
    line end."""
    return "" if prompt[-1:].isspace() else " "


def special_tokens_around(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids that the tokenizer adds before a text and after it."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = (len(full) - len(bare)) if full[len(full) - len(bare) :] == bare else 0
    while full[start : start + len(bare)] != bare:
        start += 1
    return full[:start], full[start + len(bare) :]
