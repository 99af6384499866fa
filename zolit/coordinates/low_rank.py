"""Directions of low rank, ``z = sum_k u_k v_k^T / sqrt(rank)``, made as their factors alone."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.coordinates.elements import (
    extent_of_elements,
    longest_in_codes,
    move_rows,
    spacing_of_elements,
)
from zolit.coordinates.vectors import Vectors
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.rows import Rows
from zolit.kernels.accumulate import accumulate
from zolit.kernels.arguments import Query
from zolit.kernels.dispatch import Preference
from zolit.kernels.outputs import add_low_rank
from zolit.noise import LEFT, RIGHT, WORD, Direction, control_table, fold
from zolit.supports import Support
from zolit.tensors.outputs import Outputs, Part
from zolit.tensors.reading import Reading
from zolit.tensors.site import Coordinates, Extent, Moving, Site
from zolit.tensors.step import Step, constant
from zolit.tensors.workspace import update_chunks

_STRIDE = 16 * WORD
"""The counters of each vector begin at a multiple of this number."""


@dataclass(frozen=True)
class Factors:
    """One weight's part of a direction: ``left.T @ right``, whose elements have variance 1.

    Attributes:
        left: ``[rank, rows]`` float32.
        right: ``[rank, columns]`` float32.

    Example:
        >>> Factors(torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 3.0]])).product(slice(0, 2))
        tensor([[ 2.,  3.],
                [-2., -3.]])
    """

    left: Tensor
    right: Tensor

    def product(self, rows: slice | Tensor) -> Tensor:
        """Some rows of the direction, ``[R, columns]`` float32.

        Args:
            rows: a slice, or ``[R]`` int64 indices.
        """
        return self.left[:, rows].t() @ self.right


@dataclass(frozen=True)
class LowRank(Coordinates):
    """The elements of a weight, moved along a direction of low rank (LOZO, arXiv 2410.07698).

    A perturbed product is the product with the stored weight plus a product with the factors. So
    the weight is decoded once for both signs, and no noise of its size is made.

    Attributes:
        unit: length of a coordinate's unit, as in `Elements`. ``unit[0]`` must be 0: reads move
            floats and codes by ``unit[1] * z``, counted in weights.

    Example:
        >>> LowRank((0.0, 1.0)).unit  # eps counts weights
        (0.0, 1.0)
    """

    unit: tuple[float, float]

    def check(self, path: str, support: Support) -> None:
        if support.density < 1:
            raise UserError(
                f"mask: leaves single coordinates of {path} out, which a direction of low rank "
                "cannot; use NoMask, or another perturber than LowRankPerturber"
            )

    def outputs(self, store: StoredWeight, site: Site, reading: Reading) -> Outputs | None:
        active = reading.along_one(site)
        if active is None:
            return None
        factors = reading.noise.made(
            LowRank, lambda: _factors_of_all(reading, active.key, store.device)
        )
        length = reading.amplitude(active, self.unit, store.device)[1]
        lengths = torch.stack((length, -length)[: active.copies])
        return AddedLowRank(lengths.view(-1, 1, 1), factors[site.index])

    def move(self, moving: Moving, step: Step) -> None:
        """Move chunk by chunk of rows by the sum over queries: one product of all their factors.

        For one query of rank 1 the product is never made. The update takes the right factor as the
        step of every row, and the left factor as the length of each row's unit.
        """
        store, reading = moving.store, step.reading
        queries = step.moving(moving.site)
        if not queries:
            return
        unit = constant(self.unit, store.device)
        made = step.noise.made(
            LowRank, lambda: [_factors_of_all(reading, key, step.device) for key in step.keys]
        )
        lengths = step.coefficients(moving.site)
        pairs = [(made[q][moving.site.index], lengths[q]) for q in queries]
        all_queries = Factors(
            torch.cat([factors.left * coefficient for factors, coefficient in pairs]),
            torch.cat([factors.right for factors, _ in pairs]),
        )
        for rows in update_chunks(store):
            left = all_queries.left[:, rows]
            if len(left) == 1:
                move_rows(moving, step, rows, all_queries.right, unit.unsqueeze(1) * left)
            else:
                move_rows(moving, step, rows, all_queries.product(rows), unit)

    def extent(self, store: StoredWeight, density: float) -> Extent:
        return extent_of_elements(self.unit, store, density)

    def length_in_codes(self, store: StoredWeight) -> float:
        return longest_in_codes(self.unit, store)

    def spacing(self, store: StoredWeight) -> float:
        return spacing_of_elements(self.unit, store)


class AddedLowRank(Outputs):
    """Adds to a product with the stored weight that with a direction of low rank.

    Args:
        lengths: ``[copies, 1, 1]`` float32, the signed step along the direction in each version,
            counted in weights.
        factors: the weight's part of the direction.
    """

    def __init__(self, lengths: Tensor, factors: Factors) -> None:
        self.copies, self.lengths, self._direction = len(lengths), lengths, factors

    def change_product(
        self,
        out: Tensor,
        x: Tensor,
        scale: Tensor | None,
        store: StoredWeight,
        preference: Preference,
    ) -> None:
        add_low_rank(
            out.view(self.copies, -1, store.rows),
            store.activations(x).reshape(self.copies, -1, store.padded_columns),
            None if scale is None else scale.reshape(self.copies, -1, 1),
            self.lengths,
            self._direction.left,
            self._direction.right,
            preference=preference,
        )

    def change_rows(self, values: Tensor, rows: Rows, store: StoredWeight) -> list[Tensor]:
        move = store.in_model_order(self._direction.product(rows))
        return [(values + length * move).to(values.dtype) for length in self.lengths[:, 0]]

    def change_experts(
        self,
        out: Tensor,
        x: Tensor,
        scale: Tensor | None,
        store: StoredWeight,
        parts: Sequence[Part],
    ) -> None:
        inner = store.activations(x).float() @ self._direction.right.t()
        if scale is not None:
            inner *= scale
        left = self._direction.left.view(len(self._direction.left), -1, out.shape[1])
        for part in parts:
            length = self.lengths[part.half % self.copies]
            move = length * inner[part.tokens] @ left[:, part.expert]
            out[part.tokens] = (out[part.tokens].float() + move).to(out.dtype)


def _factors_of_all(reading: Reading, key: int, device: torch.device) -> dict[int, Factors]:
    shapes = {one.place.index: (one.rows, one.columns) for one in reading.members(LowRank)}
    return low_rank_factors(reading.direction, key, shapes, device, reading.preference)


def low_rank_factors(
    direction: Direction,
    key: int,
    shapes: dict[int, tuple[int, int]],
    device: torch.device,
    preference: Preference,
) -> dict[int, Factors]:
    """The factors of one direction for many weights, made together.

    Args:
        direction: distribution of the factors' elements, and the rank.
        key: 64-bit key of the direction.
        shapes: rows and columns of each weight, by the index of its site.
        device: where the factors are made.
        preference: kernel choice.

    Returns:
        The factors of each weight, by the index of its site.
    """
    if not shapes:
        return {}
    rank = direction.rank or 1
    sites = list(shapes)
    left = _vectors(
        direction, fold(key, LEFT), sites, [rows for rows, _ in shapes.values()], device, preference
    )
    right = _vectors(
        direction, fold(key, RIGHT), sites, [k for _, k in shapes.values()], device, preference
    )
    return {site: Factors(u * rank**-0.5, v) for site, u, v in zip(sites, left, right, strict=True)}


def _vectors(
    direction: Direction,
    key: int,
    sites: list[int],
    lengths: list[int],
    device: torch.device,
    preference: Preference,
) -> list[Tensor]:
    """One side of the factors: for each site ``[rank, length]`` float32.

    The vectors of a site follow one another: vector k begins where the counters of vector k - 1
    end, rounded up to a multiple of `_STRIDE`.
    """
    rank = direction.rank or 1
    strides = [-(-length // _STRIDE) * _STRIDE for length in lengths]
    vectors = Vectors.of([rank * stride for stride in strides], device)
    made = torch.zeros(vectors.shape, device=device)
    controls = vectors.by_word(control_table(key, sites)).to(device)
    query = Query(direction, controls, torch.ones((), device=device))
    accumulate(made, vectors.rows, query, preference=preference)
    parts = zip(vectors.split(made), lengths, strict=True)
    return [part.view(rank, -1)[:, :length] for part, length in parts]
