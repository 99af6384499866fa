"""Coordinates that are the scales of a weight (QZO, arXiv 2505.13430)."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.layout import to_blocks
from zolit.formats.rows import row_indices
from zolit.kernels.accumulate import accumulate
from zolit.kernels.arguments import Query
from zolit.kernels.dispatch import Preference
from zolit.tensors.outputs import Outputs, ScaledOutputs
from zolit.tensors.reading import Reading
from zolit.tensors.site import Coordinates, Extent, Moving, Site
from zolit.tensors.step import Step, constant
from zolit.tensors.versions import AS_STORED, Rescaled, Versions

SCALE_FLOOR = 1e-7
"""No update makes a scale smaller than this; QZO's code clamps at the same value."""


@dataclass(frozen=True)
class Scales(Coordinates):
    """The scales of a weight: ``[rows, groups]`` coordinates, each of which moves by itself.

    The zero of a group moves with its scale. Where a format has one scale for each row, a read
    multiplies the outputs of a product and does not decode the weight anew.

    Attributes:
        unit: length of a coordinate's unit: as a fraction of the scale, and as an absolute length
            that is added to this.

    Example:
        >>> Scales((1.0, 0.0)).unit  # eps counts fractions of each scale
        (1.0, 0.0)
    """

    unit: tuple[float, float]

    rounded: ClassVar[bool] = False

    def shape(self, store: StoredWeight) -> tuple[int, int]:
        rows, groups = store.scales()["scale"].shape
        return rows, groups

    def versions(self, store: StoredWeight, site: Site, reading: Reading) -> Versions:
        if self.scales_outputs(store):
            return AS_STORED
        factors = self._factors(store, site, reading)
        return AS_STORED if factors is None else Rescaled(factors, store)

    def outputs(self, store: StoredWeight, site: Site, reading: Reading) -> Outputs | None:
        if not self.scales_outputs(store):
            return None
        factors = self._factors(store, site, reading)
        if factors is None:
            return None
        return ScaledOutputs(torch.stack([one.t() for one in factors]))

    def scales_outputs(self, store: StoredWeight) -> bool:
        return store.scales()["scale"].shape[1] == 1

    def _factors(self, store: StoredWeight, site: Site, reading: Reading) -> list[Tensor] | None:
        """The factor of each scale in each version, ``[rows, groups]``; None if none moves."""
        scale = store.scales()["scale"]
        noise = reading.perturbation(site, self.unit, scale.device)
        if noise is None:
            return None
        one = torch.ones((), device=scale.device)
        query = Query(noise.direction, noise.control, one, noise.bits, noise.curvature)
        z = scale_step(scale, query, reading.preference)
        move = relative_length(scale, noise.amplitude) * z
        return [1.0 + move, 1.0 - move][: reading.copies(site)]

    def move(self, moving: Moving, step: Step) -> None:
        scale = moving.store.scales()["scale"]
        total = torch.zeros_like(scale)
        for query in step.queries(moving.site):
            total += scale_step(scale, query, step.reading.preference)
        factor = 1.0 + total * relative_length(scale, constant(self.unit, scale.device))
        moving.store.multiply_scales(factor, SCALE_FLOOR)

    def moved_tensors(self, store: StoredWeight) -> dict[str, Tensor]:
        return store.scales()

    def extent(self, store: StoredWeight, density: float) -> Extent:
        scale = store.scales()["scale"]
        unit = relative_length(scale, torch.tensor(self.unit, device=scale.device))
        size = float(unit.double().square().mean().sqrt())
        return Extent(True, scale.numel(), size * math.sqrt(scale.numel() * density))


def scale_step(scale: Tensor, query: Query, preference: Preference) -> Tensor:
    """``coefficient * z`` of every scale, float32.

    Args:
        scale: ``[rows, groups]``: coordinate ``(r, g)`` is in row r and column g.
        query: the direction and the step along it.
        preference: kernel choice.

    Returns:
        ``[rows, groups]``.
    """
    rows, groups = scale.shape
    z = to_blocks(torch.zeros_like(scale))
    index = row_indices(slice(0, rows), scale.device)
    accumulate(z, index, query, preference=preference)
    return z.flatten(1)[:, :groups]


def relative_length(scale: Tensor, unit: Tensor) -> Tensor:
    """Length of a unit as a fraction of each scale, ``[rows, groups]``.

    Args:
        scale: ``[rows, groups]`` float32.
        unit: ``[2]`` float32: a fraction of the scale, and an absolute length.
    """
    return unit[0] + unit[1] / scale.abs()
