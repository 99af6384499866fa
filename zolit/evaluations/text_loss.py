"""How well a model still writes: its next-token loss on the text of the prompts themselves."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from zolit.objectives.option_scoring import answer_logits, is_masked_model
from zolit.objectives.prompt_batch import PromptBatch

_PROMPTS = 32
_TOKENS = 32
_TOGETHER = 4
"""Prompts of a forward: their logits over the vocabulary lie in memory at once."""
_AT_ONCE = 8
"""Tokens whose logits are float32 at once."""


class TextLoss:
    """Mean next-token loss, in nats, on up to 32 tokens of each of the first 32 prompts.

    A task's loss says nothing of other text: steps that are too long lower it and leave a model
    that speaks no language. Measured before and after tuning on the same rows, this tells. Answers
    are left out. Batches of other objectives and masked models, which predict no next token, are
    passed over.
    """

    def __init__(self) -> None:
        self._prompts = 0
        self._tokens = 0
        self._sum = 0.0

    @property
    def value(self) -> float | None:
        """In nats a token; None if nothing was measured."""
        return self._sum / self._tokens if self._tokens else None

    def update(self, model: nn.Module, batch: Any) -> None:
        """Take a batch, as long as fewer than 32 prompts were taken."""
        done = self._prompts >= _PROMPTS
        if done or not isinstance(batch, PromptBatch) or is_masked_model(type(model)):
            return
        ids, mask = _prompts(batch)
        ids, mask = ids[: _PROMPTS - self._prompts], mask[: _PROMPTS - self._prompts]
        for some in zip(ids.split(_TOGETHER), mask.split(_TOGETHER), strict=True):
            self._take(model, *some)
        self._prompts += len(ids)

    def _take(self, model: nn.Module, ids: torch.Tensor, mask: torch.Tensor) -> None:
        width = min(_TOKENS, ids.shape[1] - 1)
        if width < 1:
            return
        last = ids.shape[1] - 1
        positions = torch.arange(last - width, last, device=ids.device).expand(len(ids), -1)
        logits = answer_logits(model, ids, mask, positions)
        real = mask[:, last - width : last].bool()
        for row, wanted, used in zip(logits, ids[:, -width:], real, strict=True):
            for few in zip(row[used].split(_AT_ONCE), wanted[used].split(_AT_ONCE), strict=True):
                self._sum += float(F.cross_entropy(few[0].float(), few[1], reduction="sum"))
            self._tokens += int(used.sum())


def _prompts(batch: PromptBatch) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and mask of each prompt ``[B, T]``, padded on the left; answers cut off."""
    ids = batch.input_ids[:: batch.options_per_prompt]
    mask = batch.attention_mask[:: batch.options_per_prompt]
    if batch.options_per_prompt == 1:
        return ids, mask
    # A row ends with the first answer: its last position that is asked for predicts its last token.
    length = int((batch.answer_ids[0] >= 0).sum())
    return ids[:, :-length], mask[:, :-length]
