"""Log-probabilities of continuations behind contexts, in batches of rows of one kind of length."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zolit.models.anatomy import word_embeddings
from zolit.models.families import answer_logits
from zolit.objectives.padding import Together, groups
from zolit.objectives.row_scores import AT_ONCE


@dataclass(frozen=True)
class Pair:
    """A context and what is scored behind it.

    Attributes:
        context: token ids, at least one.
        continuation: token ids, at least one.
    """

    context: Sequence[int]
    continuation: Sequence[int]

    def reads(self, most: int) -> tuple[int, ...]:
        """What the model reads: all but the last token, and the last ``most`` of these.

        The last token is predicted and predicts nothing.
        """
        whole = (*self.context, *self.continuation)
        return tuple(whole[-(most + 1) :][:-1])


@torch.no_grad()
def continuation_scores(
    model: nn.Module,
    pairs: Sequence[Pair],
    most: int,
    together: Together,
    batch_size: int,
    pad: int = 0,
) -> Iterator[tuple[int, float, bool]]:
    """Log-probability of each continuation, and whether greedy decoding would write it.

    Pairs that read the same tokens, such as options of one token behind one prompt, are read once.
    Rows run longest first, so that a batch has little padding.

    Args:
        model: causal, in eval mode.
        pairs: continuations of at most ``most`` tokens.
        most: tokens that the model reads at most; what is more is left out at the beginning.
        together: which rows may run in one batch (`zolit.objectives.padding`).
        batch_size: rows of a batch. Fewer run where their logits would be too many.
        pad: token id of unused positions.

    Yields:
        For each pair, in any order: its number, the log-probability in nats (sums in float32), and
        whether every token of the continuation is the likeliest one.

    Example:
        ::

            for number, log_prob, greedy in continuation_scores(model, pairs, 2048, "all", 16):
                ...
    """
    sharing: dict[tuple[int, ...], list[int]] = {}
    for number, pair in enumerate(pairs):
        sharing.setdefault(pair.reads(most), []).append(number)
    rows = sorted(sharing, key=lambda row: (-len(row), row))
    longest = {row: max(len(pairs[one].continuation) for one in sharing[row]) for row in rows}
    words = word_embeddings(model)
    for batch in _batches(rows, longest, batch_size, 1 if words is None else len(words)):
        for row, logits in _last_logits(model, batch, longest, together, pad):
            for number in sharing[row]:
                yield number, *_score(logits, pairs[number].continuation)


def _batches(
    rows: Sequence[tuple[int, ...]], longest: dict[tuple[int, ...], int], size: int, words: int
) -> Iterator[list[tuple[int, ...]]]:
    """Neighbours, as many as ``size`` and as their logits allow."""
    batch: list[tuple[int, ...]] = []
    scored = 0
    for row in rows:
        wider = max(scored, longest[row])
        if batch and (len(batch) == size or (len(batch) + 1) * wider * words > AT_ONCE):
            yield batch
            batch, wider = [], longest[row]
        batch.append(row)
        scored = wider
    if batch:
        yield batch


def _last_logits(
    model: nn.Module,
    batch: Sequence[tuple[int, ...]],
    longest: dict[tuple[int, ...], int],
    together: Together,
    pad: int,
) -> Iterator[tuple[tuple[int, ...], Tensor]]:
    """Each row with the logits of its last positions, ``[L, V]``."""
    width, scored = max(map(len, batch)), max(longest[row] for row in batch)
    device = next(model.parameters()).device
    ids = torch.full((len(batch), width), pad)
    mask = torch.zeros_like(ids)
    positions = torch.arange(width - scored, width).repeat(len(batch), 1)
    for number, row in enumerate(batch):
        ids[number, width - len(row) :] = torch.tensor(row)
        mask[number, width - len(row) :] = 1
        positions[number, : scored - longest[row]] = -1
    every = [(torch.arange(len(batch)), slice(0, width))]
    for numbers, columns in every if together == "all" else groups(mask, together):
        places = positions[numbers]
        places = torch.where(places < 0, places, places - columns.start)
        inputs = (ids[numbers, columns], mask[numbers, columns], places)
        logits = answer_logits(model, *(one.to(device) for one in inputs))
        yield from zip((batch[number] for number in numbers.tolist()), logits, strict=True)


def _score(logits: Tensor, continuation: Sequence[int]) -> tuple[float, bool]:
    """Of the last tokens of a row, from logits ``[L, V]``."""
    used = logits[len(logits) - len(continuation) :].float()
    wanted = torch.tensor(continuation, device=used.device)
    chosen = used.gather(1, wanted.unsqueeze(1)).squeeze(1)
    total = (chosen - used.logsumexp(dim=1)).sum()
    return float(total), bool((used.argmax(dim=1) == wanted).all())
