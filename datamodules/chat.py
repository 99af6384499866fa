"""Chat messages as the text that a model's own chat template makes of them."""

from typing import Any

from zolit.datamodules.values import UnfitValueError

_SAID = "0123456789"
"""Stands for what the assistant says; no template changes or adds it."""


def is_chat(value: Any) -> bool:
    """Whether a value looks like chat messages: a list of objects."""
    return isinstance(value, list) and bool(value) and all(isinstance(o, dict) for o in value)


class ChatTemplate:
    """The chat template of a tokenizer.

    Args:
        tokenizer: of transformers.
        starts: whether the tokenizer puts its start token before every text. The start token of
            the template is then left out, so that there is one.
    """

    def __init__(self, tokenizer: Any, starts: bool) -> None:
        self.tokenizer = tokenizer
        self.starts = starts

    def text(self, messages: list[dict[str, Any]], answers: bool) -> str:
        """The conversation as text, special tokens written out.

        Args:
            messages: each with ``role`` and ``content``.
            answers: whether the model's answer follows: the assistant's turn is opened.

        Raises:
            UnfitValueError: the values are no chat messages, or the tokenizer has no template.
        """
        messages = [
            {name: one for name, one in message.items() if one is not None} for message in messages
        ]
        for message in messages:
            if not all(isinstance(message.get(name), str) for name in ("role", "content")):
                raise UnfitValueError(
                    "a list of objects, of which chat messages need role and content as text"
                )
        if not getattr(self.tokenizer, "chat_template", None):
            raise UnfitValueError(
                "a list of chat messages, and the model's tokenizer has no chat template; write "
                "each conversation as text"
            )
        from jinja2 import TemplateError

        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=answers
            )
        except (TemplateError, ValueError, TypeError) as error:
            reason = " ".join(str(error).split())
            raise UnfitValueError(
                f"a list of chat messages that the tokenizer's chat template refuses ({reason})"
            ) from error
        if self.starts and self.tokenizer.bos_token:
            return text.removeprefix(self.tokenizer.bos_token)
        return text

    def before_answer(self, messages: list[dict[str, Any]]) -> str | None:
        """What the template writes between the opened turn of the assistant and its words.

        Blanks at the end of the opened turn count as part of it.

        Args:
            messages: of a conversation that the assistant answers.

        Returns:
            White space, or nothing; None if the template writes something else there, or refuses
            an answer to these messages.
        """
        opened = self.text(messages, answers=True).rstrip(" ")
        said = {"role": "assistant", "content": _SAID}
        try:
            whole = self.text([*messages, said], answers=False)
        except UnfitValueError:
            return None
        between, found, _ = whole.removeprefix(opened).partition(_SAID)
        fits = whole.startswith(opened) and found and not between.strip()
        return between if fits else None
