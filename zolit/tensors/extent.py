"""How long a direction is: what a learning rate and a step are measured by."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.tensors.scales import relative_length
from zolit.tensors.weight import PerturbedWeight

_SAMPLED_ROWS = 16


@dataclass(frozen=True)
class Extent:
    """Of the coordinates of one weight.

    Attributes:
        scales: whether they are scales, counted in fractions of the scale; else elements, counted
            in weights.
        coordinates: how many move.
        length: expected length of a direction, ``sqrt(sum of unit**2)`` over the coordinates, each
            unit in weights or as a fraction of its scale.
    """

    scales: bool
    coordinates: int
    length: float


def extent(weight: PerturbedWeight) -> Extent:
    """Of a weight that moves; looks at its scales alone."""
    store, site = weight.store, weight.site
    if site is None:
        raise ValueError(f"{weight.path} has no site among the perturbed weights")
    density = weight.reading.direction.density
    if site.coordinates == "output_scales":
        return Extent(True, store.rows, site.unit[1] * math.sqrt(store.rows * density))
    if site.coordinates == "scales":
        scale = store.scales()["scale"]
        unit = relative_length(scale, torch.tensor(site.unit, device=scale.device))
        return Extent(True, scale.numel(), _rms(unit) * math.sqrt(scale.numel() * density))
    count = store.rows * store.columns
    length = site.unit[1]
    if site.unit[0] and (parts := store.scales()):
        length += site.unit[0] * _rms(parts["scale"])
    return Extent(False, count, length * math.sqrt(count * density))


def relative_direction(weights: Iterable[PerturbedWeight]) -> float:
    """Expected length of a direction beside that of all the weights that it moves.

    A step of coefficient c along a direction moves the weights by c times this part of their size.
    Their size is taken from 16 rows of each.
    """
    moved = size = 0.0
    for weight in weights:
        found, own = extent(weight), _squared_size(weight.store)
        if found.scales:
            moved += found.length**2 / found.coordinates * own
        else:
            moved += found.length**2
        size += own
    return math.sqrt(moved / size) if size else math.inf


def _squared_size(store: StoredWeight) -> float:
    rows = min(store.rows, _SAMPLED_ROWS)
    start = (store.rows - rows) // 2
    out = torch.empty(rows, store.padded_columns, device=store.device)
    store.read(slice(start, start + rows), [out], None, "reference")
    mean = float(store.in_model_order(out).double().square().mean())
    return mean * store.rows * store.columns


def _rms(values: Tensor) -> float:
    return float(values.double().square().mean().sqrt())
