"""Coordinates that are the floats beside a weight, of which nothing else moves (SensZOQ)."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zolit.coordinates.vectors import Vectors
from zolit.formats.base import StoredWeight
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.kernels.accumulate import accumulate
from zolit.kernels.arguments import Query
from zolit.tensors.reading import Reading
from zolit.tensors.site import Coordinates, Extent, Moving, Site
from zolit.tensors.step import Step
from zolit.tensors.versions import AS_STORED, Perturbed, Versions

_MOVED_AT_ONCE = 1 << 20
"""Most floats of several weights that are moved together, so that their copies stay in cache."""


@dataclass(frozen=True)
class Entries(Coordinates):
    """The N floats of a `SparseOverlay`: ``[N]`` coordinates, counted in weights.

    A read decodes the weight once for both signs and overwrites N elements of each version. Noise
    is made for these N alone, and only they are moved and saved.

    Example:
        >>> from zolit.formats.int8 import Int8Weight
        >>> dense = Int8Weight.quantize(torch.ones(4, 32), None)
        >>> store = SparseOverlay.of(dense, torch.tensor([5, 40]), torch.ones(2))
        >>> Entries().moved_tensors(store)
        {'values': tensor([1., 1.])}
    """

    rounded: ClassVar[bool] = False

    def shape(self, store: StoredWeight) -> tuple[int, int]:
        return 1, len(_floats(store))

    def versions(self, store: StoredWeight, site: Site, reading: Reading) -> Versions:
        noise = reading.perturbation(site, (0.0, 1.0), store.device)
        return AS_STORED if noise is None else Perturbed(reading.copies(site), noise)

    def move(self, moving: Moving, step: Step) -> None:
        self.move_all([moving], step)

    @classmethod
    def move_all(cls, moving: Sequence[Moving], step: Step) -> None:
        for some in _together(moving):
            values = [_floats(one.store) for one in some]
            sites = [one.site.index for one in some]
            vectors = Vectors.of([len(one) for one in values], step.device)
            moved = torch.zeros(vectors.shape, device=step.device)
            parts = vectors.split(moved)
            torch._foreach_copy_(parts, values)
            known = step.reading.curvatures
            curvature = vectors.by_coordinate([known.get(site) for site in sites])
            # A mask chose which floats there are, so every direction moves all of them.
            for table, length in zip(step.controls, step.coefficients(some[0].site), strict=True):
                control = vectors.by_word(torch.stack([table[site] for site in sites]))
                query = Query(step.reading.direction, control, length, None, curvature)
                accumulate(moved, vectors.rows, query, preference=step.reading.preference)
            torch._foreach_copy_(values, parts)

    def moved_tensors(self, store: StoredWeight) -> dict[str, Tensor]:
        return {"values": _floats(store)}

    def extent(self, store: StoredWeight, density: float) -> Extent:
        count = len(_floats(store))
        return Extent(False, count, math.sqrt(count))


def _floats(store: StoredWeight) -> Tensor:
    """The floats of an overlay, ``[N]`` float32."""
    if not isinstance(store, SparseOverlay):
        raise TypeError(f"{store.title} has no floats beside it")
    return store.values


def _together(moving: Sequence[Moving]) -> Iterator[list[Moving]]:
    """The weights in their order, in groups of at most `_MOVED_AT_ONCE` floats."""
    some: list[Moving] = []
    count = 0
    for one in moving:
        length = len(_floats(one.store))
        if some and count + length > _MOVED_AT_ONCE:
            yield some
            some, count = [], 0
        some.append(one)
        count += length
    if some:
        yield some
