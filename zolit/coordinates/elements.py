"""Each code or float of a weight moves by itself (MeZO, QuZO)."""

import math
from dataclasses import dataclass

import torch

from zolit.formats.base import StoredWeight, row_indices, to_blocks
from zolit.kernels.accumulate import accumulate
from zolit.kernels.arguments import Update, on_rows
from zolit.tensors.reading import Reading
from zolit.tensors.site import Coordinates, Extent, Moving, Site
from zolit.tensors.step import Step, constant
from zolit.tensors.versions import AS_STORED, Perturbed, Versions
from zolit.tensors.workspace import update_chunks


@dataclass(frozen=True)
class Elements(Coordinates):
    """The elements of a weight, ``[rows, columns]`` coordinates.

    Attributes:
        unit: length of a coordinate's unit in codes and in weights: a code of scale s moves by
            ``(unit[0] * s + unit[1]) * z`` in weights, a float by ``unit[1] * z``.

    Example:
        >>> Elements((1.0, 0.0)).unit  # of codes: eps counts codes
        (1.0, 0.0)
    """

    unit: tuple[float, float]

    def shape(self, store: StoredWeight) -> tuple[int, int]:
        return store.rows, store.columns

    def versions(self, store: StoredWeight, site: Site, reading: Reading) -> Versions:
        noise = reading.perturbation(site, self.unit, store.device)
        return AS_STORED if noise is None else Perturbed(reading.copies(site), noise)

    def move(self, moving: Moving, step: Step) -> None:
        """The sum over queries is made chunk by chunk of rows, its last term in the update."""
        store, reading, feedback = moving.store, step.reading, moving.feedback
        queries = step.queries(moving.site)
        if not queries:
            return
        unit = constant(self.unit, store.device)
        decay = None if feedback is None else constant(feedback.decay, store.device)
        *earlier, last = queries
        for rows in update_chunks(store):
            total = None
            if earlier:
                shape = (1, rows.stop - rows.start, store.padded_columns)
                buffers = reading.workspace.buffers(*shape, torch.float32, store.device)
                total = buffers.parts[0].zero_()
                blocks, index = to_blocks(total), row_indices(rows, store.device)
                for query in earlier:
                    accumulate(blocks, index, on_rows(query, rows), preference=reading.preference)
            residual = None if feedback is None else feedback.residual[rows]
            update = Update(total, unit, step.rounding(moving.site), residual, decay, last)
            store.apply(rows, update, reading.preference)

    def extent(self, store: StoredWeight, density: float) -> Extent:
        return extent_of_elements(self.unit, store, density)

    def length_in_codes(self, store: StoredWeight) -> float:
        return longest_in_codes(self.unit, store)


def extent_of_elements(unit: tuple[float, float], store: StoredWeight, density: float) -> Extent:
    """How much of a weight moves where its elements do, alone or along a low rank.

    Args:
        unit: length of a coordinate's unit in codes, in weights.
        store: the weight.
        density: fraction of the elements that move.
    """
    count = store.rows * store.columns
    length = unit[1]
    if unit[0] and (parts := store.scales()):
        length += unit[0] * float(parts["scale"].double().square().mean().sqrt())
    return Extent(False, count, length * math.sqrt(count * density))


def longest_in_codes(unit: tuple[float, float], store: StoredWeight) -> float:
    """The largest move of a code by a coordinate of 1, in codes; 0 for floats."""
    if not store.quantized:
        return 0.0
    return unit[0] + unit[1] / float(store.scales()["scale"].abs().min())
