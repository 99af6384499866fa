"""Log-probabilities of the answers in rows of tokens."""

from collections.abc import Iterator
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.anatomy import word_embeddings
from zolit.models.families import answer_logits
from zolit.models.passes.answer_head import only_answers
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.padding import Together, groups
from zolit.objectives.prompt_batch import Rows

AT_ONCE = 1 << 27
"""Logits that are in memory at once where rows have answers of their own."""

ABSENT = -1e4
"""Score of an option that an example does not have: its probability is 0 in float32, and no
difference of two reads is NaN."""


def row_scores(model: nn.Module, rows: Rows, copies: int, few: bool) -> Tensor:
    """Scores of the answers of rows.

    Args:
        model: of transformers.
        rows: of prompts.
        copies: how often the rows are repeated, copy after copy.
        few: whether logits of the answers may be made without the others.

    Returns:
        ``[copies * R, C]`` float32: of all answers if a row is a prompt, else ``[.., 1]``.
    """
    if not rows.of_one_token:
        totals, counts = answer_log_probs(model, rows, copies)
        return (totals / counts).unsqueeze(1)
    answers = rows.answer_ids[:, 0]
    with only_answers(model, answers) if few else nullcontext(False) as alone:
        logits = answer_logits(model, *_inputs(rows, copies))[:, 0]
    return logits if alone else logits[:, answers].float()


def answer_log_probs(model: nn.Module, rows: Rows, copies: int) -> tuple[Tensor, Tensor]:
    """Log-probability of each row's answer, and the number of its tokens.

    Returns:
        ``[copies * R]`` float32, in nats, and ``[copies * R]`` int64.
    """
    logits = answer_logits(model, *_inputs(rows, copies)).float()
    normalizer = logits.logsumexp(dim=-1)  # [R, L]
    answers = rows.answer_ids.repeat(copies, 1)  # [R, L]
    chosen = logits.gather(-1, answers.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    used = answers >= 0
    total = (chosen - normalizer).masked_fill(~used, 0.0).sum(dim=1)
    return total, used.sum(dim=1)


def option_scores(model: nn.Module, batch: AnswerBatch, copies: int, together: Together) -> Tensor:
    """Mean log-probability of the tokens of each option, ``[copies * B, C]`` float32.

    An option that an example does not have scores `ABSENT`.

    Args:
        model: causal.
        batch: whose examples have several options.
        copies: how often its rows are repeated, copy after copy.
        together: which rows the model may see together.

    Raises:
        UserError: if the examples have no options.
    """
    if batch.width < 2:
        raise UserError(
            "model.evaluation: the rows have no options to choose from, as their answers are "
            "written; set model.evaluation to SquadAnswers, DropAnswers, ExactNumber or MeanLoss, "
            "and model.objective to AnswerLoss"
        )
    totals = own_log_probs(model, batch, copies, together)
    return batch.by_example(totals / batch.lengths, ABSENT).flatten(0, 1)


def own_log_probs(
    model: nn.Module,
    batch: AnswerBatch,
    copies: int,
    together: Together,
    numbers: Tensor | None = None,
) -> Tensor:
    """Log-probability of the answers of a batch whose rows have answers of their own.

    Rows run in one forward pass as long as their logits are at most `AT_ONCE`; what that leaves for
    further passes has no influence on the result but for rounding.

    Args:
        model: causal.
        batch: of R rows.
        copies: how often the rows are repeated, copy after copy.
        together: which rows the model may see together.
        numbers: ``[r]`` int64 numbers of the rows that are read; None for all.

    Returns:
        ``[copies, r]`` float32, in nats.
    """
    if numbers is None:
        numbers = torch.arange(len(batch.examples), device=batch.examples.device)
    parts = list(_parts(model, batch, copies, together, numbers))
    each = [
        answer_log_probs(model, batch.rows(numbers[part], columns), copies)[0].view(copies, -1)
        for part, columns in parts
    ]
    order = torch.cat([part for part, _ in parts]).argsort()
    return torch.cat(each, dim=1)[:, order]


def _parts(
    model: nn.Module, batch: AnswerBatch, copies: int, together: Together, numbers: Tensor
) -> Iterator[tuple[Tensor, slice]]:
    """Places in ``numbers`` of the rows of each pass, and the columns that they fill."""
    whole = torch.arange(len(numbers), device=numbers.device)
    if together == "all":
        found = [(whole, slice(0))]
    else:
        found = list(groups(batch.attention_mask[numbers], together))
    words = word_embeddings(model)
    longest = int(batch.lengths[numbers].max()) if len(numbers) else 1
    logits = copies * max(1, longest) * (1 if words is None else len(words))
    for places, _ in found:
        for some in places.split(max(1, AT_ONCE // logits)):
            yield some, batch.used_columns(numbers[some])


def _inputs(rows: Rows, copies: int) -> tuple[Tensor, Tensor, Tensor]:
    return (
        rows.input_ids.repeat(copies, 1),
        rows.attention_mask.repeat(copies, 1),
        rows.answer_positions.repeat(copies, 1),
    )
