"""How well a model predicts the text of the rows."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from zolit.errors import UserError
from zolit.evaluations.base import Evaluation
from zolit.evaluations.text_loss import next_tokens
from zolit.models.families import family_of
from zolit.objectives.prompt_batch import PromptBatch


class Perplexity(Evaluation):
    """Next-token ``loss`` in nats and ``perplexity``, its exponential, of the prompts' own text.

    The text of answers does not count. The figures show whether a model that is tuned for a task
    can still write. Any objective will do, but batches must come from `PromptDataModule`, and the
    model must be a causal one.

    Args:
        tokens: number of tokens at the end of each prompt that are predicted.

    Raises:
        UserError: if ``tokens`` is below 1.

    Example:
        ::

            evaluation:
              class_path: Perplexity
              init_args:
                tokens: 64
    """

    primary = "perplexity"

    def __init__(self, tokens: int = 256) -> None:
        super().__init__(loss=MeanMetric(), perplexity=ExponentialOfMean())
        if tokens < 1:
            raise UserError(f"tokens must be at least 1, got {tokens}; try 256")
        self.tokens = tokens

    def update(self, model: nn.Module, batch: Any) -> None:
        if not isinstance(batch, PromptBatch) or not family_of(model).writes_on:
            raise UserError(
                f"model.evaluation: Perplexity got a {type(batch).__name__} and a "
                f"{type(model).__name__}, expected prompts and a causal language model; leave "
                "model.evaluation out"
            )
        for logits, wanted in next_tokens(model, batch, self.tokens):
            losses = F.cross_entropy(logits, wanted, reduction="none")
            self.metrics["loss"].update(losses)
            self.metrics["perplexity"].update(losses)


class ExponentialOfMean(MeanMetric):
    """Exponential of the mean: perplexity, of losses in nats a token."""

    higher_is_better = False  # type: ignore[assignment]  # torchmetrics says None for means

    def compute(self) -> Tensor:
        return torch.exp(super().compute())
