"""How well a model predicts a text."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import MeanMetric

from zolit.arguments import at_least
from zolit.errors import UserError
from zolit.evaluations.base import Evaluation
from zolit.evaluations.text_loss import next_tokens
from zolit.models.families import answer_logits, family_of
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.padding import Together, rows_together
from zolit.objectives.prompt_batch import PromptBatch
from zolit.objectives.row_scores import own_log_probs


class Perplexity(Evaluation):
    """Next-token ``loss`` in nats and ``perplexity``, its exponential.

    Of windows of a text (`TextDataModule`) every token counts that its window says. Of prompts
    their own text counts, without the answers: the figures show whether a model that is tuned for a
    task can still write. Any objective will do; the model must be a causal one.

    Args:
        tokens: number of tokens at the end of each prompt that are predicted; windows of a text
            say themselves which of their tokens count.

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
        at_least("tokens", tokens, instead="try 256")
        self.tokens = tokens
        self.together: Together = "all"
        """Which windows of a batch the model may see together, found by `try_out`."""

    def try_out(self, model: nn.Module) -> None:
        if family_of(model).writes_on:
            self.together = rows_together(model, answer_logits, left=True)

    def update(self, model: nn.Module, batch: Any) -> None:
        known = isinstance(batch, PromptBatch | AnswerBatch)
        if not known or not family_of(model).writes_on:
            raise UserError(
                f"model.evaluation: Perplexity got a {type(batch).__name__} and a "
                f"{type(model).__name__}, expected prompts or windows of a text and a causal "
                "language model; leave model.evaluation out"
            )
        if isinstance(batch, AnswerBatch) and batch.is_text:
            totals, counts = window_losses(model, batch, self.together)
            self._count(totals / counts, counts)
            return
        for logits, wanted in next_tokens(model, batch, self.tokens):
            self._count(F.cross_entropy(logits, wanted, reduction="none"))

    def passes(self, model: nn.Module, batch: Any) -> Any:
        if isinstance(batch, AnswerBatch) and batch.is_text:
            return window_losses(model, batch, self.together)
        return super().passes(model, batch)

    def _count(self, losses: Tensor, weights: Tensor | float = 1.0) -> None:
        self.metrics["loss"].update(losses, weight=weights)
        self.metrics["perplexity"].update(losses, weight=weights)


def window_losses(
    model: nn.Module, batch: AnswerBatch, together: Together = "all"
) -> tuple[Tensor, Tensor]:
    """Next-token losses of windows of a text.

    Args:
        model: causal.
        batch: of `TextDataModule`.
        together: which windows the model may see together.

    Returns:
        ``[R]`` float32, the sum over the tokens that count, in nats; and ``[R]`` int64, how many
        these are.
    """
    return -own_log_probs(model, batch, 1, together)[0], batch.lengths


class ExponentialOfMean(MeanMetric):
    """Exponential of the mean: perplexity, of losses in nats a token."""

    higher_is_better = False  # type: ignore[assignment]  # torchmetrics says None for means

    def compute(self) -> Tensor:
        return torch.exp(super().compute())
