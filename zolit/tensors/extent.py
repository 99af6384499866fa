"""The length of a direction, by which learning rates are chosen and steps are judged."""

import math
from collections.abc import Iterable

import torch

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.tensors.reading import Reading
from zolit.tensors.site import Extent
from zolit.tensors.weight import PerturbedWeight

_SAMPLED_ROWS = 16
"""Rows of each weight by which its length is estimated."""


def extent(weight: PerturbedWeight) -> Extent:
    """How much of a weight moves along a direction; of the weight only its scales are read.

    Raises:
        ValueError: if the weight does not move.
    """
    site = weight.site
    if site is None:
        raise ValueError(f"{weight.path} has no site among the perturbed weights")
    return site.coordinates.extent(weight.store, site.support.density)


def importance_weight(weight: PerturbedWeight) -> float:
    """The factor of a step along a direction that moves the weight.

    See `zolit.supports.Support.importance_weight`.
    """
    return 1.0 if weight.site is None else weight.site.support.importance_weight


def relative_direction(weights: Iterable[PerturbedWeight]) -> float:
    """Expected length of a direction relative to the length of all weights that move.

    A step of coefficient c moves these weights by c times this fraction of their length, on average
    over directions. Their length is estimated from 16 rows of each.
    """
    moved = size = 0.0
    for weight in weights:
        found, own = extent(weight), _squared_size(weight.store)
        squared = found.length**2 * importance_weight(weight)
        # A move of a scale by a fraction moves all weights of the scale by the same fraction.
        moved += squared / found.coordinates * own if found.scales else squared
        size += own
    return math.sqrt(moved / size) if size else math.inf


def _squared_size(store: StoredWeight) -> float:
    """The estimated squared length of a weight, from rows in its middle."""
    rows = min(store.rows, _SAMPLED_ROWS)
    start = (store.rows - rows) // 2
    out = torch.empty(rows, store.padded_columns, device=store.device)
    store.read(slice(start, start + rows), [out], None, "reference")
    mean = float(store.in_model_order(out).double().square().mean())
    return mean * store.rows * store.columns


def common_importance_weight(reading: Reading, name: str, instead: str) -> float:
    """The importance weight of all weights of a model, which must be the same.

    Args:
        reading: their shared state.
        name: of the part that needs it, whose steps have one length for each direction.
        instead: a part that does without.

    Raises:
        UserError: if there are several.
    """
    found = reading.importance_weights or {1.0}
    if len(found) > 1:
        raise UserError(
            "mask: got one whose directions leave out some weights more often than others, "
            f"{name} needs all as often; use RandomBlocks, or {instead} with this mask"
        )
    return found.pop()
