"""Prune by weights and activations: Wanda."""

from torch import Tensor

from zolit.calibration.layer_statistics import LayerStatistics
from zolit.strategies.pruner.base import ScoringPruner


class Wanda(ScoringPruner):
    """``S_ij = |W_ij| * ||X_j||_2`` (Sun et al. 2023, arXiv 2306.11695, equation 1).

    ``||X_j||`` is the norm of an input channel over the calibration text. It is the same for all
    rows, so that for comparisons within a row it does not matter whether sums are over all tokens
    or means over windows. The weights that are left stay as they are.

    Example:
        >>> import torch
        >>> from zolit.strategies.pruner.pattern import Ratio
        >>> seen = LayerStatistics(torch.tensor([1.0, 100.0]).double(), windows=1)
        >>> Wanda().prune(torch.tensor([[3.0, -2.0]]), seen, Ratio(0.5)).values
        tensor([[ 0., -2.]])
    """

    def scores(self, weight: Tensor, seen: LayerStatistics) -> Tensor:
        return weight.abs() * seen.input_norms("sample_mean")
