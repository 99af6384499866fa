"""Classification by the likelihood of candidate answers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zolit.arguments import in_unit_range
from zolit.errors import UserError
from zolit.models.families import answer_logits, family_of, rehearse
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.answer_trial import answers_alone
from zolit.objectives.base import Objective
from zolit.objectives.padding import Together, groups, rows_together
from zolit.objectives.prompt_batch import PromptBatch
from zolit.objectives.row_scores import option_scores, row_scores

Batch = PromptBatch | AnswerBatch
"""Prompts whose answers are common to all, or those of each row."""


class OptionScoring(Objective):
    """Cross-entropy over candidate answers, MeZO's loss for classification.

    The score of an answer is the mean log-probability of its tokens; the loss is the
    cross-entropy of the softmax over the scores of an example's answers (Malladi et al. 2023,
    arXiv 2305.17333, appendix on prompts; ``forward_wrap_with_option_len`` in its code). The
    mean is over the answer's tokens; sums in float32. If every answer is one token behind the
    prompt, the score is its logit: the logarithm of the normalizer is the same for all answers and
    cancels in the softmax.

    Vocabulary logits are made at the answer positions only. If logits are the scores, only the
    answers' rows of the output layer are multiplied, in float32 (`only_answers`).

    Rows are padded to one length. If a model's scores would depend on the padding, only rows of one
    length run together (`zolit.objectives.padding`).

    A part of a direction's effect is the same for all rows: it makes one answer likelier, whatever
    the row says. Whether this lowers the loss of a batch depends on how many rows of each answer
    the batch happens to hold. If all rows share a prompt, most of the estimate's noise comes from
    this part (docs/methods/option_scoring.md). ``shared`` below 1 shrinks this part of the
    derivative, its signal and its noise. The minimum stays where it was, and the shared part moves
    there more slowly.

    Args:
        shared: factor of the derivative through the batch's mean scores, in (0, 1]; 1 is the
            derivative of the loss. Below 1 it needs an estimator that compares the two reads of a
            direction.

    Raises:
        UserError: if ``shared`` is out of range.

    Example:
        ::

            objective:
              class_path: OptionScoring
              init_args:
                shared: 0.2
    """

    def __init__(self, shared: float = 1.0) -> None:
        self.shared = in_unit_range("shared", shared, "try 0.2, or 1 for the loss")
        self.compares = shared < 1
        self.together: Together = "all"
        """Which rows of a batch the model may see together, found by `try_out`."""
        self.alone = True
        """Whether logits of the answers may be made without the others, found by `try_out`."""

    def try_out(self, model: nn.Module) -> None:
        left = family_of(model).writes_on
        self.together = rows_together(model, answer_logits, left)
        self.alone = answers_alone(model, answer_logits)

    def losses(self, model: nn.Module, batch: Batch, copies: int = 1) -> Tensor:
        return self.compare(self.repeated_scores(model, batch, copies).chunk(copies), batch)

    def read(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.scores(model, batch)

    def compare(self, reads: Sequence[Tensor], batch: Batch) -> Tensor:
        each = torch.stack(list(reads))
        if self.shared < 1:
            each = self._with_less_shared(each)
        labels = batch.labels.expand(len(each), -1)
        return F.cross_entropy(each.mT, labels, reduction="none").mean(dim=1)

    def rehearsal(self) -> Callable[[nn.Module], Any]:
        """One prompt, see `zolit.models.families.base.Family.rehearse`."""
        return rehearse

    def scores(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.repeated_scores(model, batch, 1)

    def targets(self, batch: Batch) -> Tensor:
        return batch.labels

    def _with_less_shared(self, each: Tensor) -> Tensor:
        """Scores ``[reads, B, C]`` with a smaller difference between the mean scores of the reads.

        A single read stays as it is.
        """
        mean = each.mean(dim=1, keepdim=True)
        return each - (1 - self.shared) * (mean - mean.mean(dim=0))

    def repeated_scores(self, model: nn.Module, batch: Batch, copies: int) -> Tensor:
        """Scores of each copy of the batch, copy after copy, ``[copies * B, C]`` float32."""
        if isinstance(batch, AnswerBatch):
            return self._own_scores(model, batch, copies)
        if not isinstance(batch, PromptBatch):
            raise UserError(
                f"objective: OptionScoring compares the answers of a PromptBatch, got a batch of "
                f"type {type(batch).__name__}; use PromptDataModule, or an objective for your "
                "batches such as zolit.LossFunction"
            )
        if self.together == "all":
            scores = row_scores(model, batch.rows(), copies, self.alone)
        else:
            parts = list(groups(batch.attention_mask, self.together))
            each = [
                row_scores(model, part, copies, self.alone).chunk(copies)
                for part in (batch.rows(*place) for place in parts)
            ]
            order = torch.cat([rows for rows, _ in parts]).argsort()
            scores = torch.cat([torch.cat(copy)[order] for copy in zip(*each, strict=True)])
        return scores.view(copies * len(batch), -1)

    def _own_scores(self, model: nn.Module, batch: AnswerBatch, copies: int) -> Tensor:
        """``[copies * B, C]`` float32 of options that each row brings."""
        if self.shared < 1:
            raise UserError(
                f"objective: OptionScoring got shared={self.shared} and rows with options of their "
                "own, which share no answer; set shared: 1"
            )
        return option_scores(model, batch, copies, self.together)
