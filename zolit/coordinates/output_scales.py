"""Coordinates that are a factor for each output channel, which a read applies to the product."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from zolit.coordinates.scales import SCALE_FLOOR
from zolit.coordinates.vectors import Vectors
from zolit.formats.base import StoredWeight
from zolit.formats.layout import without_base
from zolit.kernels.accumulate import accumulate
from zolit.kernels.arguments import Perturbation, Query
from zolit.kernels.outputs import output_factors
from zolit.tensors.members import Active
from zolit.tensors.outputs import Outputs, RowScaledOutputs, ScaledOutputs
from zolit.tensors.reading import Reading
from zolit.tensors.site import Coordinates, Extent, Moving, Site
from zolit.tensors.step import Step


@dataclass(frozen=True)
class OutputScales(Coordinates):
    """One factor for all scales of an output channel: ``[rows]`` coordinates.

    A perturbed read multiplies the outputs by ``1 +- eps * unit * z``, so the weight is decoded
    once for both signs, and a read costs what a read of the stored weight does. The factors of all
    weights are made by one call of a kernel, in reads and in updates.

    Attributes:
        unit: length of a coordinate's unit, as a fraction of each scale.

    Example:
        >>> OutputScales().unit  # eps counts fractions of the scale
        1.0
    """

    unit: float = 1.0

    rounded: ClassVar[bool] = False

    def shape(self, store: StoredWeight) -> tuple[int, int]:
        return 1, store.rows

    def outputs(self, store: StoredWeight, site: Site, reading: Reading) -> Outputs | None:
        active = reading.along(site)
        if active is None:
            return None
        factors = reading.noise.made(
            OutputScales, lambda: _factors_of_all(reading, active, store.device)
        )
        kind = RowScaledOutputs if active.examples else ScaledOutputs
        return kind(factors[site.index])

    def scales_outputs(self, store: StoredWeight) -> bool:
        return True

    def move(self, moving: Moving, step: Step) -> None:
        self.move_all([moving], step)

    @classmethod
    def move_all(cls, moving: Sequence[Moving], step: Step) -> None:
        sites = [one.site for one in moving]
        vectors = Vectors.of([one.store.rows for one in moving], step.device)
        factors = torch.ones(vectors.shape, device=step.device)
        kinds = [site.coordinates for site in sites]
        units = torch.tensor([k.unit for k in kinds if isinstance(k, cls)], device=step.device)
        weights = [site.support.importance_weight for site in sites]
        times = torch.tensor(weights, device=step.device)
        bits = vectors.joined([site.support.bits() for site in sites])
        known = step.reading.curvatures
        curvature = vectors.by_coordinate([known.get(site.index) for site in sites])
        for key, table, length in zip(step.keys, step.controls, step.lengths, strict=True):
            inside = torch.tensor([site.support.includes(key) for site in sites])
            lengths = units * (length * times) * inside.to(step.device)
            accumulate(
                factors,
                vectors.rows,
                Query(
                    step.reading.direction,
                    vectors.by_word(torch.stack([table[site.index] for site in sites])),
                    vectors.by_word(lengths).view(-1, 1, 1, 1),
                    bits,
                    curvature,
                ),
                preference=step.reading.preference,
            )
        for one, factor in zip(moving, vectors.split(factors), strict=True):
            one.store.multiply_scales(factor.unsqueeze(1), SCALE_FLOOR)

    def moved_tensors(self, store: StoredWeight) -> dict[str, Tensor]:
        return store.scales()

    def extent(self, store: StoredWeight, density: float) -> Extent:
        return Extent(True, store.rows, self.unit * math.sqrt(store.rows * density))


def _factors_of_all(reading: Reading, active: Active, device: torch.device) -> dict[int, Tensor]:
    """The factors ``1 +- eps * unit * z`` of all weights, by the index of the site.

    Those of a weight are ``[copies, 1, rows]`` float32, or ``[copies * R, 1, rows]`` where each of
    R rows of the batch has its own.
    """
    members = [one for one in reading.members(OutputScales) if reading.moves(one.place)]
    vectors = Vectors.of([one.rows for one in members], device)
    indices = [one.place.index for one in members]
    amplitudes = torch.tensor([active.eps * one.coordinates.unit for one in members])
    along = Perturbation(
        reading.direction,
        torch.empty(0),  # of each key in turn
        vectors.by_word(amplitudes).view(-1, 1, 1, 1).to(device),
        vectors.joined([one.place.support.bits() for one in members]),
        vectors.by_coordinate([reading.curvatures.get(index) for index in indices]),
    )
    keys = active.examples or (active.key,)
    factors = torch.empty(active.copies, len(keys), *vectors.shape, device=device)
    for number, key in enumerate(keys):
        controls = vectors.by_word(reading.control_table(key, indices)).to(device)
        outs = [without_base(copy[number]) for copy in factors]
        noise = along._replace(control=controls)
        output_factors(outs, vectors.rows, noise, preference=reading.preference)
    if active.rows > 1:
        factors = factors.repeat_interleave(active.rows, dim=1)
    parts = vectors.split(factors.flatten(0, 1))
    return {index: part.unsqueeze(1) for index, part in zip(indices, parts, strict=True)}
