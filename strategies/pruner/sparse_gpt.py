"""Prune column by column and make up for it in later columns: SparseGPT."""

from typing import ClassVar

import torch
from torch import Tensor

from zolit.calibration.inverse_factor import inverse_factor
from zolit.calibration.layer_statistics import LayerStatistics
from zolit.errors import UserError
from zolit.strategies.pruner.base import PrunedWeight, Pruner
from zolit.strategies.pruner.pattern import Pattern


class SparseGPT(Pruner):
    """Zeros whose errors later columns make up for (Frantar and Alistarh 2023, arXiv 2301.00774,
    Algorithm 1).

    Entries are chosen by ``w^2 / [H^-1]_jj``, a group of columns at a time, by the values that they
    have by then: for N:M groups of M columns, otherwise ``block_size`` columns. With the pattern
    ``Ratio`` and ``per: matrix`` the entries of a group of all rows are chosen together, as in the
    authors' code; with ``per: row`` those of each row.

    Args:
        block_size: columns among which entries are chosen, and after which later columns are
            brought up to date.
        damping: added to the diagonal of the second moments, as a fraction of its mean.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> from zolit.strategies.pruner.pattern import Ratio
        >>> seen = LayerStatistics(torch.ones(2), 1, torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
        >>> SparseGPT().prune(torch.tensor([[1.0, 2.0]]), seen, Ratio(0.5)).kept
        tensor([[False,  True]])
    """

    needs_moments: ClassVar[bool] = True

    def __init__(self, block_size: int = 128, damping: float = 0.01) -> None:
        if block_size < 1:
            raise UserError(f"block_size: got {block_size}, expected at least 1; try 128")
        if not 0 < damping < 1:
            raise UserError(f"damping: got {damping}, expected a number in (0, 1); try 0.01")
        self.block_size = block_size
        self.damping = damping

    def prune(self, weight: Tensor, seen: LayerStatistics, pattern: Pattern) -> PrunedWeight:
        if seen.moments is None:
            raise UserError(
                "pruner SparseGPT: got no second moments of the layer; prune with PruningModule, "
                "which computes them"
            )
        factor = inverse_factor(seen.moments, self.damping)
        rest = weight.float().clone()
        rest[:, seen.moments.diagonal() == 0] = 0  # columns whose inputs are always 0
        return sparse_gpt(rest, factor, pattern, self.block_size)


def sparse_gpt(rest: Tensor, factor: Tensor, pattern: Pattern, block_size: int) -> PrunedWeight:
    """Algorithm 1 of SparseGPT.

    Args:
        rest: ``[rows, columns]`` float32, the weight; it becomes the result.
        factor: of `inverse_factor`.
        pattern: how many entries are left.
        block_size: see `SparseGPT`.
    """
    columns = rest.shape[1]
    group = pattern.group(block_size)
    size = max(block_size // group, 1) * group
    kept = torch.ones(rest.shape, dtype=torch.bool, device=rest.device)
    for start in range(0, columns, size):
        stop = min(start + size, columns)
        part, local, left = rest[:, start:stop], factor[start:stop, start:stop], kept[:, start:stop]
        errors = torch.empty_like(part)
        for column in range(stop - start):
            if column % group == 0:
                some = slice(column, column + group)
                left[:, some] = pattern.keep((part[:, some] / local.diagonal()[some]).square())
            value = part[:, column].clone()
            errors[:, column] = value.masked_fill(left[:, column], 0) / local[column, column]
            part[:, column:] -= torch.outer(errors[:, column], local[column, column:])
        rest[:, stop:] -= errors @ factor[start:stop, stop:]
    return PrunedWeight(rest.masked_fill_(~kept, 0), kept)
