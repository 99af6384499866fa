"""How well a model still writes: its next-token loss on the text of the prompts."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zolit.models.families import answer_logits, family_of
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.prompt_batch import PromptBatch

_PROMPTS = 32
_TOKENS = 32
_TOGETHER = 4
"""Prompts in one forward pass. Their logits over the vocabulary are in memory at once."""
_AT_ONCE = 8
"""Tokens whose logits are float32 at once."""


class TextLoss:
    """Mean next-token loss, in nats, on up to 32 tokens of each of the first 32 prompts.

    The loss of a task says nothing about other text: steps that are too long can lower it and leave
    a model that has forgotten its language. This loss, measured on the same rows before and after
    tuning, shows it. The text of answers does not count. Batches of other kinds are skipped, and so
    are masked models, which do not predict next tokens.
    """

    def __init__(self) -> None:
        self._prompts = 0
        self._tokens = 0
        self._sum = 0.0

    @property
    def value(self) -> float | None:
        """The mean loss in nats a token; None if nothing was measured."""
        return self._sum / self._tokens if self._tokens else None

    def update(self, model: nn.Module, batch: Any) -> None:
        """Add a batch, until 32 prompts have been measured."""
        done = self._prompts >= _PROMPTS
        if (
            done
            or not isinstance(batch, PromptBatch | AnswerBatch)
            or not family_of(model).writes_on
        ):
            return
        left = _PROMPTS - self._prompts
        for logits, wanted in next_tokens(model, batch, _TOKENS, left):
            self._sum += float(F.cross_entropy(logits, wanted, reduction="sum"))
            self._tokens += len(wanted)
        self._prompts += min(left, len(batch))


def next_tokens(
    model: nn.Module, batch: PromptBatch | AnswerBatch, tokens: int, prompts: int | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """A causal model's predictions for the tokens of prompts, a few tokens at a time.

    Args:
        model: of transformers.
        batch: of prompts; their answers are not read.
        tokens: how many tokens at the end of each prompt are predicted.
        prompts: how many prompts of the batch, from the first; None for all.

    Yields:
        Logits ``[n, V]`` float32, and the ids of the tokens that they predict, ``[n]`` int64.
    """
    ids, mask = (part[:prompts] for part in batch.prompts())
    width = min(tokens, ids.shape[1] - 1)
    if width < 1:
        return
    last = ids.shape[1] - 1
    for some, real in zip(ids.split(_TOGETHER), mask.split(_TOGETHER), strict=True):
        positions = torch.arange(last - width, last, device=ids.device).expand(len(some), -1)
        logits = answer_logits(model, some, real, positions)
        used = real[:, last - width : last].bool()
        for row, wanted, there in zip(logits, some[:, -width:], used, strict=True):
            for few in zip(row[there].split(_AT_ONCE), wanted[there].split(_AT_ONCE), strict=True):
                yield few[0].float(), few[1]
