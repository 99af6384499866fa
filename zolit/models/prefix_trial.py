"""Whether blocks may run once for what several passes have in common, found by trying it."""

import logging
from typing import Literal

import torch
from torch import Tensor, nn

from zolit.models.pairs import ROWS, Forward
from zolit.models.prefix import prefix_blocks, sharing
from zolit.models.prefix_forms import Form, UnfitError, doubled, find_forms
from zolit.models.stand_ins import StandIns, word_embeddings
from zolit.tensors.reading import Reading
from zolit.tensors.weight import perturbed_weights

log = logging.getLogger(__name__)

KEYS = 2
"""Directions of a trial where each may end the prefix at another block."""


def try_prefix(model: nn.Module, reading: Reading, forward: Forward) -> list[Form]:
    """The forms of the blocks that may run once (`share_prefix`); none where it would not be right.

    The model runs with stand-ins for its weights, with and without what is shared: it must give the
    same, in a pair and in a pass that goes on from an earlier one, and its moving weights must read
    as many rows.

    Args:
        model: prepared, on any device; its blocks are not compiled.
        reading: the state that its weights share.
        forward: how the model will be called.
    """
    blocks = prefix_blocks(model, reading)
    if not blocks or word_embeddings(model) is None:
        return []
    model.eval()
    try:
        keys = 1 if reading.blocks is None else KEYS
        forms = find_forms(model, blocks, forward)
        if all(_same(model, reading, forms, forward, key) for key in range(keys)):
            return forms
        reason = "they would not give the same"
    except UnfitError:
        reason = "they do not take the rows of a batch first, or not one after the other"
    # Whatever a model's own code comes to with half of a batch.
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    log.info("the blocks before the first tuned one run whole in each pass: %s", reason)
    return []


def _same(
    model: nn.Module, reading: Reading, forms: list[Form], forward: Forward, key: int
) -> bool:
    """Whether passes along one direction are the same with and without a shared prefix."""
    moving = {w.path for w in perturbed_weights(model) if reading.blocks is None}
    rows = doubled(model, ROWS, padded=True)

    def run(copies: Literal[1, 2]) -> tuple[Tensor, list[tuple[str, torch.Size]]]:
        stand_ins = StandIns(model)
        with reading.perturbed(key, 1.0, copies):
            out = stand_ins.run(forward, model, *rows)
        return out, [(one.path, one.shape) for one in stand_ins.reads if one.path in moving]

    wanted, reads = run(1)
    both: tuple[Literal[1, 2], ...] = (2, 1)
    for copies in both:
        with sharing(model, reading, forms), reading.same_batch():
            # The second goes on from what the first has left.
            found = [run(copies) for _ in range(2)]
        for out, seen in found:
            if seen != reads or out.shape != wanted.shape:
                return False
            if not torch.allclose(out, wanted, rtol=1e-3, atol=1e-4):
                return False
    return True
