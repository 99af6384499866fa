"""Finds by trials whether the blocks of a prefix may run once for several passes."""

import logging
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from zolit.errors import first_line
from zolit.models.anatomy import block_lists, word_embeddings
from zolit.models.passes.prefix import block_sites, prefix_blocks, sharing
from zolit.models.passes.prefix_forms import Form, UnfitError, doubled, find_forms
from zolit.models.trials.pairs import ROWS, Forward
from zolit.models.trials.stand_ins import Blank, StandIns, make_blank
from zolit.tensors.reading import Reading
from zolit.tensors.weight import perturbed_weights

log = logging.getLogger(__name__)

KEYS = 2
"""Directions of a trial if each may end the prefix at another block."""


def try_prefix(model: nn.Module, reading: Reading, forward: Forward) -> list[Form]:
    """The forms of the blocks that may run once (`share_prefix`); none if the result would differ.

    The model runs with stand-ins for its weights, with and without a shared prefix. The results
    must be the same, in a pair and in a pass that continues from an earlier one, and the moving
    weights must read as many rows.

    Args:
        model: prepared, on any device; its blocks are not compiled.
        reading: the state that its weights share.
        forward: how the model will be called.
    """
    count = len(prefix_blocks(model, reading))
    if count == 0 or word_embeddings(model) is None:
        return []
    try:
        copy, sites = make_blank(model), block_sites(model)
        forms = find_forms(copy, list(block_lists(copy.model)[0])[:count], forward)
        moving = {w.path for w in perturbed_weights(model) if not reading.leaves_weights_out}

        def passes(key: int, copies: Literal[1, 2]) -> list[_Pass]:
            """Two passes; the second continues from the results of the first."""
            with reading.same_batch(), reading.perturbed(key, 1.0, copies):
                return [_pass(copy, forward, moving) for _ in range(2)]

        wanted = _pass(copy, forward, moving)
        with sharing(copy.model, reading, sites, forms):
            keys = range(KEYS if reading.leaves_weights_out else 1)
            found = [one for key in keys for one in (*passes(key, 2), *passes(key, 1))]
        if all(one.equals(wanted) for one in found):
            return forms
        reason = "they would not give the same"
    except UnfitError:
        reason = "they do not take the rows of a batch first, or not one after the other"
    # The model's own code may raise anything on half of a batch.
    except Exception as error:
        reason = first_line(error)
    log.info("the blocks before the first tuned one run whole in each pass: %s", reason)
    return []


@dataclass(frozen=True)
class _Pass:
    """The result of a pass, and the inputs of the moving weights in it."""

    out: Tensor
    reads: list[tuple[str, torch.Size]]

    def equals(self, other: "_Pass") -> bool:
        if self.reads != other.reads or self.out.shape != other.out.shape:
            return False
        return torch.allclose(self.out, other.out, rtol=1e-3, atol=1e-4)


def _pass(copy: Blank, forward: Forward, moving: set[str]) -> _Pass:
    stand_ins = StandIns(copy)
    out = stand_ins.run(forward, *doubled(copy, ROWS, padded=True))
    return _Pass(out, [(one.path, one.shape) for one in stand_ins.reads if one.path in moving])
