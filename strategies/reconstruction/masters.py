"""Prunes the float32 masters of a block, by what is known of the dense block and of them now."""

from collections.abc import Iterable, Mapping

import torch

from zolit.calibration.float_block import Example, FloatBlock
from zolit.calibration.layer_statistics import LayerStatistics
from zolit.strategies.pruner.base import PrunedWeight, Pruner
from zolit.strategies.pruner.one_shot import check_finite
from zolit.strategies.pruner.pattern import Pattern


@torch.no_grad()
def refreshed(
    block: FloatBlock, examples: Iterable[Example], dense: Mapping[str, LayerStatistics]
) -> dict[str, LayerStatistics]:
    """Sums over the inputs that layers have now, and the gradients of the dense block.

    Args:
        block: is run on the examples with its masters.
        examples: windows to run.
        dense: of the dense block. Its second moments are made anew if it has them; its gradients
            are scaled to the number of windows that are run, so that their means stay.

    Returns:
        By the path of the parameter.
    """
    moments = any(one.moments is not None for one in dense.values())
    with block.region.watched(moments) as found:
        for one in examples:
            block.run(one.hidden, one.rest)
    for path, seen in found.items():
        before = dense[path]
        if before.gradients is not None:
            seen.gradients = before.gradients * (seen.windows / before.windows)
    return found


@torch.no_grad()
def prune_masters(
    block: FloatBlock, seen: Mapping[str, LayerStatistics], pruner: Pruner, pattern: Pattern
) -> dict[str, PrunedWeight]:
    """Prune every master in place, each by itself.

    Args:
        block: whose masters change.
        seen: what is known of each layer.
        pruner: which entries become zero.
        pattern: how many are left.

    Returns:
        The new weights by the path of the parameter.

    Raises:
        UserError: naming a layer whose weights become NaN or infinite.
    """
    found: dict[str, PrunedWeight] = {}
    for layer in block.region.layers:
        one = pruner.prune(block.matrix(layer), seen[layer.path], pattern)
        check_finite(one, layer.path, type(pruner).__name__)
        block.set(layer, one.values)
        found[layer.path] = one
    return found
