"""Prunes the layers of one block by what the calibration text shows of them now."""

from zolit.calibration.region import Region
from zolit.errors import UserError
from zolit.strategies.pruner.base import PrunedWeight, Pruner
from zolit.strategies.pruner.pattern import Pattern


def prune_region(region: Region, pruner: Pruner, pattern: Pattern) -> dict[str, PrunedWeight]:
    """The new weights of a block's layers, each pruned by itself.

    The text runs through the block once, and for `Pruner.needs_gradients` a second time, forward
    and back. All statistics are those of the block as it is: a layer's inputs do not yet come from
    pruned layers of the same block, as in the code of Wanda and SparseGPT.

    Args:
        region: a block that is still dense; not changed.
        pruner: of each layer.
        pattern: of each layer.

    Returns:
        The new weights by the path of the parameter.

    Raises:
        UserError: naming the block or the layer, if something is NaN or infinite.
    """
    seen = region.statistics(pruner.needs_moments, pruner.needs_gradients)
    found: dict[str, PrunedWeight] = {}
    for layer in region.layers:
        one = pruner.prune(region.weight(layer), seen.pop(layer.path), pattern)
        check_finite(one, layer.path, type(pruner).__name__)
        found[layer.path] = one
    return found


def check_finite(weight: PrunedWeight, path: str, method: str) -> None:
    """Refuse new weights that are not numbers.

    Args:
        weight: that was made.
        path: name of the parameter.
        method: that made it.

    Raises:
        UserError: naming both.
    """
    if not weight.values.isfinite().all():
        raise UserError(
            f"model.source: {method} gives {path} weights that are NaN or infinite; give a model "
            "whose weights are finite, or another pruner"
        )
