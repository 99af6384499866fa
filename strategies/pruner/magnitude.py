"""Prune the smallest weights."""

from torch import Tensor

from zolit.calibration.layer_statistics import LayerStatistics
from zolit.strategies.pruner.base import ScoringPruner


class MagnitudePruner(ScoringPruner):
    """The entries of smallest size become zero: ``S = |W|`` (Han et al. 2015, arXiv 1506.02626).

    No text is needed. Published tables prune the smallest of each matrix, which is the pattern
    ``Ratio`` with ``per: matrix``.

    Example:
        >>> import torch
        >>> from zolit.strategies.pruner.pattern import Ratio
        >>> weight, seen = torch.tensor([[3.0, -5.0, 1.0, 2.0]]), LayerStatistics(torch.ones(4))
        >>> MagnitudePruner().prune(weight, seen, Ratio(0.5)).values
        tensor([[ 3., -5.,  0.,  0.]])
    """

    def scores(self, weight: Tensor, seen: LayerStatistics) -> Tensor:
        return weight.abs()
