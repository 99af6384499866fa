"""Coordinates that are the elements of a weight: its codes or floats (MeZO, QuZO)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.layout import to_blocks
from zolit.formats.rows import row_indices
from zolit.formats.spacing import spacing
from zolit.kernels.accumulate import accumulate
from zolit.kernels.arguments import Query, Update, on_rows
from zolit.tensors.reading import Reading
from zolit.tensors.site import Coordinates, Extent, Moving, Site
from zolit.tensors.step import Step, constant
from zolit.tensors.versions import AS_STORED, Perturbed, Versions
from zolit.tensors.workspace import update_chunks


@dataclass(frozen=True)
class Elements(Coordinates):
    """The elements of a weight: ``[rows, columns]`` coordinates, each of which moves by itself.

    Attributes:
        unit: length of a coordinate's unit, in codes and in weights. A unit moves a code of scale s
            by ``unit[0] * s + unit[1]``, counted in weights, and a float by ``unit[1]``.

    Example:
        >>> Elements((1.0, 0.0)).unit  # eps counts codes
        (1.0, 0.0)
    """

    unit: tuple[float, float]

    def shape(self, store: StoredWeight) -> tuple[int, int]:
        return store.rows, store.columns

    def versions(self, store: StoredWeight, site: Site, reading: Reading) -> Versions:
        noise = reading.perturbation(site, self.unit, store.device)
        return AS_STORED if noise is None else Perturbed(reading.copies(site), noise)

    def move(self, moving: Moving, step: Step) -> None:
        """Move chunk by chunk of rows by the sum over queries.

        The update kernel makes the last term of the sum itself, so that a step of one query needs
        no buffer.
        """
        store, reading = moving.store, step.reading
        queries = step.queries(moving.site)
        if not queries:
            return
        unit = constant(self.unit, store.device)
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
            move_rows(moving, step, rows, total, unit, last)

    def extent(self, store: StoredWeight, density: float) -> Extent:
        return extent_of_elements(self.unit, store, density)

    def length_in_codes(self, store: StoredWeight) -> float:
        return longest_in_codes(self.unit, store)

    def spacing(self, store: StoredWeight) -> float:
        return spacing_of_elements(self.unit, store)


def move_rows(
    moving: Moving,
    step: Step,
    rows: slice,
    total: Tensor | None,
    unit: Tensor,
    query: Query | None = None,
) -> None:
    """Move the elements of some rows in place, with the error feedback of their weight.

    Args:
        moving: the weight.
        step: the step of the optimizer.
        rows: which rows.
        total: how far to move, in units of the coordinate; see `Update.step`.
        unit: see `Update.unit`.
        query: a last direction to move along; see `Update.query`.
    """
    residual = decay = None
    if moving.feedback is not None:
        residual = moving.feedback.residual[rows]
        decay = constant(moving.feedback.decay, moving.store.device)
    update = Update(total, unit, step.rounding(moving.site), residual, decay, query)
    moving.store.apply(rows, update, step.reading.preference)


def extent_of_elements(unit: tuple[float, float], store: StoredWeight, density: float) -> Extent:
    """How much of a weight moves if its elements do.

    Args:
        unit: length of a coordinate's unit, in codes and in weights.
        store: the weight.
        density: fraction of the elements that move.
    """
    count = store.rows * store.columns
    length = unit[1]
    if unit[0] and (parts := store.scales()):
        length += unit[0] * float(parts["scale"].double().square().mean().sqrt())
    return Extent(False, count, length * math.sqrt(count * density))


def longest_in_codes(unit: tuple[float, float], store: StoredWeight) -> float:
    """How far a coordinate of 1 moves a code at most, in codes; 0 for floats.

    Args:
        unit: length of a coordinate's unit, in codes and in weights.
        store: the weight.
    """
    if not store.quantized:
        return 0.0
    return unit[0] + unit[1] / float(store.scales()["scale"].abs().min())


def spacing_of_elements(unit: tuple[float, float], store: StoredWeight) -> float:
    """The spacing of the grid that moves are rounded onto, in units of the coordinate.

    An element of unit u (in weights) on a grid of spacing s picks up the variance ``|v| s`` where
    it moves by a short v. All elements together pick up as much as on one grid of the spacing
    ``sum(u s) / sum(u u)``, counted in units.

    Args:
        unit: length of a coordinate's unit, in codes and in weights.
        store: the weight.
    """
    parts = store.scales() if unit[0] else {}
    length = torch.tensor(unit[1])
    if parts:
        length = unit[0] * parts["scale"] + unit[1]
    variance = (length * spacing(store).to(length.device)).double().mean()
    return float(variance / length.double().square().mean())
