"""Directions of low rank, ``z = sum_k u_k v_k^T / sqrt(rank)``, kept as their factors."""

from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.kernels.accumulate import accumulate
from zolit.kernels.arguments import Query
from zolit.kernels.dispatch import Preference
from zolit.noise import LEFT, RIGHT, WORD, Direction, control_table, fold
from zolit.tensors.vectors import Vectors

_STRIDE = 16 * WORD
"""Vectors begin at multiples of this many counters."""


@dataclass(frozen=True)
class Factors:
    """A weight's share of a direction, ``left.T @ right``; unit variance in each coordinate.

    Attributes:
        left: ``[rank, rows]`` float32.
        right: ``[rank, columns]`` float32.
    """

    left: Tensor
    right: Tensor

    def product(self, rows: slice | Tensor) -> Tensor:
        """Some rows of the direction, ``[R, columns]`` float32."""
        return self.left[:, rows].t() @ self.right


def low_rank_factors(
    direction: Direction,
    key: int,
    shapes: dict[int, tuple[int, int]],
    device: torch.device,
    preference: Preference,
) -> dict[int, Factors]:
    """Factors of one direction for many weights.

    Args:
        direction: distribution of the factors' coordinates, and the rank.
        key: 64-bit key of the direction.
        shapes: rows and columns of each weight, by the index of its site.
        device: where they are made.
        preference: kernel choice.

    Returns:
        Factors by the index of the site.
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
    """``[rank, length]`` coordinates for each site; vector k takes the counters after k - 1's."""
    rank = direction.rank or 1
    strides = [-(-length // _STRIDE) * _STRIDE for length in lengths]
    vectors = Vectors.of([rank * stride for stride in strides], device)
    made = torch.zeros(vectors.shape, device=device)
    controls = vectors.by_word(control_table(direction, key, sites)).to(device)
    query = Query(direction, controls, torch.ones((), device=device))
    accumulate(made, vectors.rows, query, preference=preference)
    parts = zip(vectors.split(made), lengths, strict=True)
    return [part.view(rank, -1)[:, :length] for part, length in parts]
