"""Finds by trials whether a model's weights can be read in two versions in one pass."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zolit.coordinates import OutputScales
from zolit.errors import UserError, first_line
from zolit.models.anatomy import word_embeddings
from zolit.models.special_tokens import special_tokens
from zolit.models.trials.stand_ins import Blank, Read, StandIns, make_blank
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight, perturbed_weights

log = logging.getLogger(__name__)

Forward = Callable[[nn.Module, Tensor, Tensor], Any]
"""Runs a model on token ids and an attention mask, ``[rows, tokens]`` int64 each."""

ROWS, TOKENS = 3, 11
"""Rows and tokens of the trial batch before it is doubled; odd numbers, so that no dimension of
a model is mistaken for them."""


@dataclass(frozen=True)
class Trial:
    """What a trial of a model has shown.

    Attributes:
        pairable: whether pairs may be read.
        unread: paths of tuned weights that the trial did not read.
    """

    pairable: bool
    unread: tuple[str, ...] = ()


def try_pairs(model: nn.Module, forward: Forward, planned: bool, tell: bool) -> Trial:
    """Find out whether each tuned weight reads the two halves of a doubled batch as its halves.

    The model runs twice with stand-ins for its weights (`StandIns`): on rows whose second half is
    marked, and on rows whose first half is. The input of each tuned weight must be marked in the
    same half alone, in the same places. A model that does not take token ids, with an objective of
    the user's own, is not tried: ``planned`` decides.

    Args:
        model: prepared, on any device; its blocks are not compiled.
        forward: how the model will be called.
        planned: whether the kinds of the tuned weights allow pairs.
        tell: whether to log a line if the trial forbids pairs.
    """
    if not planned or word_embeddings(model) is None:
        return Trial(planned)
    tuned = {weight.path for weight in perturbed_weights(model)}
    try:
        reason, read = _why_not(make_blank(model), forward)
    # The model's own code may raise anything on numbers that it never meets otherwise.
    except Exception as error:
        said = first_line(error)[:200]
        reason, read = f"the model cannot be tried without its weights ({said})", tuned
    if reason is not None and tell:
        log.warning("each direction takes two passes, not a pair in one: %s", reason)
    return Trial(reason is None, tuple(sorted(tuned - read)))


def refuse_unread(model: nn.Module, reading: Reading, paths: tuple[str, ...]) -> None:
    """Refuse pairs when a weight is read that no trial has read.

    Args:
        model: prepared; modules that hold such a weight get a hook.
        reading: the state that its weights share.
        paths: of the weights.
    """

    def refuse(module: nn.Module, inputs: Any) -> None:
        if reading.paired:
            raise UserError(
                f"{', '.join(_held(module) & known)} is read by this batch, but was not when pairs "
                "were tried, so that they may be wrong; set the estimator's `paired: false`"
            )

    known = set(paths)
    for module in model.modules():
        if _held(module) & known:
            module.register_forward_pre_hook(refuse)


def _held(module: nn.Module) -> set[str]:
    held = module.parameters(recurse=False)
    return {p.path for p in held if isinstance(p, PerturbedWeight)}


def _why_not(copy: Blank, forward: Forward) -> tuple[str | None, set[str]]:
    """A reason against pairs, None for none, and the paths of the weights that were read."""
    first, second, mask = trial_rows(copy.model, ROWS)
    both = torch.cat((first, second)), torch.cat((mask, mask))
    # Mark each half in turn: one may read the other and not be read by it.
    seen = [StandIns(copy, marked) for marked in (second, first)]
    for stand_ins in seen:
        stand_ins.run(forward, *both)
    read = {one.path for one in seen[0].reads}
    for path, operation in seen[0].elsewhere.items():
        return f"{path} is read by {operation}, which takes one version of it", read
    before, after = (one.reads for one in seen)
    if [(r.path, r.shape) for r in before] != [(r.path, r.shape) for r in after]:
        return "which rows its weights read depends on the rows", read
    found = list(zip(before, after, strict=True))
    odd = [late for late, early in found if late.marked.any() and not _halves(late, early)]
    alone = [late for late, _ in found if not late.marked.any()]
    if alone and not _grow(copy, forward, before):
        odd += alone
    if not odd:
        return None, read
    return (
        f"{odd[0].path} reads {list(odd[0].shape)} of a batch of {2 * ROWS} rows of {TOKENS} "
        "tokens, not rows whose halves are those of the batch"
    ), read


def _grow(copy: Blank, forward: Forward, before: list[Read]) -> bool:
    """Whether inputs that no token reaches still have one row for each row of the batch."""
    more = ROWS + 2
    first, second, mask = trial_rows(copy.model, more)
    stand_ins = StandIns(copy)
    stand_ins.run(forward, torch.cat((first, second)), torch.cat((mask, mask)))
    return len(stand_ins.reads) == len(before) and all(
        a.marked.any() or a.shape[0] - 2 * ROWS == b.shape[0] - 2 * more == 0
        for a, b in zip(before, stand_ins.reads, strict=True)
    )


def trial_rows(model: nn.Module, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of tokens, as many rows of other tokens, and the mask of both.

    Returns:
        Each ``[rows, TOKENS]`` int64, padded on the left as for causal models; masked models
        accept that too.
    """
    words, config = word_embeddings(model), getattr(model, "config", None)
    special = special_tokens(config or {})
    count = 0 if words is None else min(len(words), 256)
    plain = torch.tensor([token for token in range(count) if token not in special])
    numbers = 2 * (torch.arange(rows * TOKENS) % (len(plain) // 2)).view(rows, TOKENS)
    short = 2 * (torch.arange(rows) % 3).unsqueeze(1)
    mask = (torch.arange(TOKENS) >= short).long()
    return plain[numbers], plain[numbers + 1], mask


def _halves(late: Read, early: Read) -> bool:
    """Whether the inputs are marked in the same half as the batch, in both runs."""
    half = late.marked.numel() // 2
    return (
        late.shape[0] % 2 == 0
        and not late.marked[:half].any()
        and not early.marked[half:].any()
        and torch.equal(late.marked[half:], early.marked[:half])
    )


def why_not_by_row(model: nn.Module, forward: Forward) -> str | None:
    """A reason why each row of a batch cannot read the weights along a direction of its own.

    The model runs with stand-ins for its weights, once for each row, which is marked. The input of
    each tuned weight must be marked in this row's share of it, and nowhere else.

    Args:
        model: prepared; its blocks are not compiled.
        forward: how the model will be called.

    Returns:
        None for no reason.
    """
    for weight in perturbed_weights(model):
        if weight.site is not None and not isinstance(weight.site.coordinates, OutputScales):
            return f"{weight.path} moves by other coordinates than factors of output channels"
        if weight.dim() > 2:
            return f"{weight.path} holds experts, which see rows in another order"
    copy = make_blank(model)
    plain, marked, mask = trial_rows(copy.model, ROWS)
    for row in range(ROWS):
        tokens = torch.where(torch.arange(ROWS).unsqueeze(1) == row, marked, plain)
        stand_ins = StandIns(copy, marked[row])
        stand_ins.run(forward, tokens, mask)
        for path, operation in stand_ins.elsewhere.items():
            return f"{path} is read by {operation}"
        for read in stand_ins.reads:
            if read.shape[0] % ROWS or not _only(read.marked, row):
                shape = list(read.shape)
                return f"{read.path} reads {shape} of {ROWS} rows, not these rows in their order"
    return None


def _only(marked: Tensor, row: int) -> bool:
    """Whether an input is marked in one row's share of it alone; none is marked if no token is."""
    shares = marked.view(ROWS, -1).any(1)
    others = [share for other, share in enumerate(shares.tolist()) if other != row]
    return not any(others)
