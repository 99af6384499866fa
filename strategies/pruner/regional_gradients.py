"""Prune by weights, activations and gradients of a block's output: the score of Wanda++."""

from typing import ClassVar

from torch import Tensor

from zolit.calibration.layer_statistics import LayerStatistics, Norm
from zolit.errors import UserError
from zolit.strategies.pruner.base import ScoringPruner


class RegionalGradients(ScoringPruner):
    """``S_ij = (alpha * G_ij + ||X_j||_2) * |W_ij|`` (Wanda++, arXiv 2503.04992, equation 4).

    ``G_ij`` is the root of the mean over windows of the squared gradient of the regional loss, the
    norm ``||f(X_n)||_2`` of the block's output for window n. It needs no labels, and the gradient
    stays within the block.

    Which norm ``||X_j||`` the paper's alpha of 100 goes with is not said, so both are offered:
    see docs/methods/wandapp.md.

    Args:
        alpha: weight of the gradients beside the inputs; 0 is Wanda.
        norm: ``sample_mean``: the root of the mean over windows of the sum over their tokens, as in
            Wanda's code; ``all_tokens``: the root of the sum over all tokens of all windows, with
            which the same alpha weighs less.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> import torch
        >>> from zolit.strategies.pruner.pattern import Ratio
        >>> seen = LayerStatistics(torch.ones(2).double(), windows=1)
        >>> seen.gradients = torch.tensor([[4.0, 0.0]])
        >>> RegionalGradients().scores(torch.tensor([[1.0, 2.0]]), seen)
        tensor([[201.,   2.]])
    """

    needs_gradients: ClassVar[bool] = True

    def __init__(self, alpha: float = 100.0, norm: Norm = "sample_mean") -> None:
        if not 0 <= alpha < float("inf"):
            raise UserError(f"alpha: got {alpha}, expected a number of at least 0; try 100")
        self.alpha = alpha
        self.norm: Norm = norm

    def scores(self, weight: Tensor, seen: LayerStatistics) -> Tensor:
        if seen.gradients is None:
            raise UserError(
                "pruner RegionalGradients: got no gradients of the layer; prune with "
                "PruningModule, which computes them"
            )
        gradients = (seen.gradients / max(seen.windows, 1)).sqrt()
        return (self.alpha * gradients + seen.input_norms(self.norm)) * weight.abs()
