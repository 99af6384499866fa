"""Gradient checkpointing: blocks keep their inputs alone, and run again in the backward pass."""

from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zolit.errors import UserError
from zolit.models.anatomy import named_blocks
from zolit.models.passes.calls import Call, Stage, wrap_call


def recompute_blocks(model: nn.Module) -> None:
    """Let every block of a model keep its inputs instead of its activations (Chen et al., arXiv
    1604.06174), in place.

    Of all activations those of one block are there at a time, for one more forward pass in each
    step. Gradients stay the same bit for bit.

    Args:
        model: prepared; without dropout, that is in eval mode.

    Raises:
        UserError: if it has no blocks.
    """
    blocks = named_blocks(model)
    if not blocks:
        raise UserError(
            f"model.gradient_checkpointing: {type(model).__name__} has no list of blocks that "
            "could run again; leave it out"
        )
    for block in blocks.values():
        wrap_call(block, Stage.RECOMPUTED, _recomputed)


def _recomputed(inner: Call) -> Call:
    def call(*arguments: Any, **options: Any) -> Any:
        if not torch.is_grad_enabled():
            return inner(*arguments, **options)
        # Nothing in a block is random: the generator's state need not be kept.
        return checkpoint(
            inner, *arguments, use_reentrant=False, preserve_rng_state=False, **options
        )

    return call
