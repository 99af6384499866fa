"""An estimate of the loss's curvature along each coordinate of a weight (HiZOO)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zolit.formats.layout import to_blocks
from zolit.formats.rows import chunks, row_indices
from zolit.kernels.accumulate import accumulate_squares
from zolit.kernels.arguments import Query, on_rows
from zolit.noise import WORD
from zolit.tensors.reading import Reading
from zolit.tensors.site import Site
from zolit.tensors.step import constant

_CHUNK_ELEMENTS = 1 << 20
"""Coordinates whose curvature is changed at once, with four bytes for each beside the result."""

LEAST = 1e-12
"""No curvature becomes smaller than this, so that directions stay finite."""


def start(shape: tuple[int, int], device: torch.device) -> Tensor:
    """Ones, as kernels take them: ``[rows, columns]`` of the coordinates, padded to whole words.

    Args:
        shape: rows and columns of the coordinates (`zolit.tensors.site.Coordinates.shape`).
        device: of the weight.
    """
    return torch.ones(shape[0], -(-shape[1] // WORD) * WORD, device=device)


def follow(
    curvature: Tensor,
    site: Site,
    reading: Reading,
    controls: Sequence[Tensor],
    along: Sequence[float],
    smooth: float,
    shift: float,
) -> None:
    """``S <- (1 - smooth) S + smooth |mean_q along[q] S (z_q**2 - shift)|``, in place.

    That is HiZOO's update of the inverse covariance of its directions (arXiv 2402.15173, Algorithm
    1), where S is ``curvature`` and ``along[q]`` the curvature of the loss along ``z_q / sqrt(S)``,
    halved.

    Args:
        curvature: see `start`.
        site: of the weight.
        reading: state that the weights share.
        controls: key words of each direction for this weight, by which its reads were made.
        along: of each direction.
        smooth: weight of the new estimate, in (0, 1).
        shift: 0 as in Algorithm 1, or 1, which makes the estimate before ``|.|`` unbiased.
    """
    device, bits = curvature.device, site.support.bits()
    for rows in chunks(len(curvature), max(1, _CHUNK_ELEMENTS // curvature.shape[1])):
        part = curvature[rows]
        mean, index = torch.zeros_like(part), row_indices(rows, device)
        for control, value in zip(controls, along, strict=True):
            share = torch.tensor(value / len(along), device=device)
            query = on_rows(Query(reading.direction, control, share, bits), rows)
            squares = to_blocks(mean), index, query, constant(shift, device)
            accumulate_squares(*squares, preference=reading.preference)
        part.mul_(mean.abs_().mul_(smooth).add_(1.0 - smooth)).clamp_(min=LEAST)
