"""Language modelling: the loss of every token."""

from typing import Any

import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.answer_loss import AnswerLoss
from zolit.objectives.base import Objective
from zolit.objectives.prompt_batch import PromptBatch


class LanguageModeling(Objective):
    """Mean next-token loss, in nats, over all tokens of a batch but the first of each row.

    Of windows of a text (`TextDataModule`) these are the tokens that a window counts: a strided one
    leaves out those that it only reads. Of rows with answers they are the prompt and the (first)
    right answer, of prompts with common answers the prompt alone. It needs a causal model.

    Example:
        ::

            model:
              objective: LanguageModeling
              evaluation: Perplexity
            data:
              class_path: TextDataModule
              init_args:
                text: book.txt
    """

    def __init__(self) -> None:
        self._tokens = AnswerLoss()

    def try_out(self, model: nn.Module) -> None:
        self._tokens.try_out(model)

    def losses(self, model: nn.Module, batch: Any, copies: int = 1) -> Tensor:
        return self._tokens.losses(model, counted_rows(batch), copies)

    def rehearsal(self) -> Any:
        return self._tokens.rehearsal()


def counted_rows(batch: Any) -> AnswerBatch:
    """A batch whose answers are the tokens that language modelling counts.

    Args:
        batch: of windows of a text, which are as they should be; or of prompts.

    Raises:
        UserError: if it is neither.
    """
    if isinstance(batch, AnswerBatch):
        if batch.is_text:
            return batch
        rows = batch.right_rows if bool((batch.labels >= 0).all()) else batch.firsts
        return whole_rows(batch.input_ids[rows], batch.attention_mask[rows])
    if isinstance(batch, PromptBatch):
        return whole_rows(*batch.prompts())
    raise UserError(
        f"objective: LanguageModeling reads windows of a text or prompts, got a batch of type "
        f"{type(batch).__name__}; use TextDataModule or PromptDataModule"
    )


def whole_rows(ids: Tensor, mask: Tensor) -> AnswerBatch:
    """Rows as one-token prompts followed by all of their other tokens.

    Args:
        ids: ``[R, T]`` int64, padded on the left.
        mask: ``[R, T]`` int64.
    """
    lengths = mask.sum(dim=1)
    return text_rows(ids, mask, (lengths - 1).clamp(min=0))


def text_rows(ids: Tensor, mask: Tensor, counted: Tensor) -> AnswerBatch:
    """Rows of a text of which the last tokens count.

    Args:
        ids: ``[R, T]`` int64, padded on the left.
        mask: ``[R, T]`` int64.
        counted: ``[R]`` int64, tokens at the end of each row that count; at most all but one.
    """
    count, width = ids.shape
    longest = max(1, int(counted.max()) if count else 1)
    slots = torch.arange(longest, device=ids.device)
    places = (width - counted.unsqueeze(1) + slots).clamp(max=width - 1)
    answers = ids.gather(1, places)
    answers = torch.where(slots < counted.unsqueeze(1), answers, -1)
    zeros = torch.zeros(count, dtype=torch.int64, device=ids.device)
    return AnswerBatch(
        input_ids=ids,
        attention_mask=mask,
        answer_ids=answers,
        examples=torch.arange(count, device=ids.device),
        labels=zeros,
        right=torch.ones_like(zeros, dtype=torch.bool),
        is_text=True,
    )
