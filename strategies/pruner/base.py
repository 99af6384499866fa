"""What a pruner is: from a weight and what text shows of its layer to a weight with zeros."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar, NamedTuple

from torch import Tensor

from zolit.arguments import Checked
from zolit.calibration.layer_statistics import LayerStatistics
from zolit.strategies.pruner.pattern import Pattern


class PrunedWeight(NamedTuple):
    """A weight with zeros.

    Attributes:
        values: ``[rows, columns]`` float32, 0 wherever ``kept`` is not.
        kept: ``[rows, columns]`` bool, the entries that are left.

    Example:
        >>> import torch
        >>> kept = torch.tensor([[True, False]])
        >>> PrunedWeight(torch.tensor([[1.5, 2.0]]) * kept, kept).values
        tensor([[1.5000, 0.0000]])
    """

    values: Tensor
    kept: Tensor


def kept_fraction(weights: Iterable[PrunedWeight]) -> float:
    """The fraction of the entries of some weights that are left; 1 of none.

    Example:
        >>> import torch
        >>> kept = torch.tensor([[True, False]])
        >>> kept_fraction([PrunedWeight(kept.float(), kept)])
        0.5
    """
    left = total = 0
    for one in weights:
        left, total = left + int(one.kept.sum()), total + one.kept.numel()
    return left / total if total else 1.0


class Pruner(Checked, ABC):
    """Decides which entries of a linear layer's weight become zero, and what the others become.

    Attributes:
        needs_moments: whether it reads `LayerStatistics.moments`.
        needs_gradients: whether it reads `LayerStatistics.gradients`.

    Example:
        >>> import torch
        >>> from zolit.strategies.pruner.pattern import Ratio
        >>> class Leftmost(ScoringPruner):
        ...     def scores(self, weight, seen):
        ...         return -torch.arange(weight.shape[1]).expand(weight.shape)
        >>> seen = LayerStatistics(torch.ones(4))
        >>> Leftmost().prune(torch.ones(1, 4), seen, Ratio(0.5)).values
        tensor([[1., 1., 0., 0.]])
    """

    needs_moments: ClassVar[bool] = False
    needs_gradients: ClassVar[bool] = False

    @abstractmethod
    def prune(self, weight: Tensor, seen: LayerStatistics, pattern: Pattern) -> PrunedWeight:
        """The weight of one layer with zeros.

        Args:
            weight: ``[rows, columns]`` float, output channels first; not changed.
            seen: what text shows of the layer.
            pattern: how many entries are left, and where.
        """


class ScoringPruner(Pruner):
    """A pruner that gives each entry a score: the lowest become zero, the others stay.

    Example:
        >>> import torch
        >>> from zolit.strategies.pruner.pattern import Ratio
        >>> class Squares(ScoringPruner):
        ...     def scores(self, weight, seen):
        ...         return weight.square()
        >>> seen = LayerStatistics(torch.ones(2))
        >>> Squares().prune(torch.tensor([[-3.0, 2.0]]), seen, Ratio(0.5)).values
        tensor([[-3.,  0.]])
    """

    @abstractmethod
    def scores(self, weight: Tensor, seen: LayerStatistics) -> Tensor:
        """How much each entry matters, ``[rows, columns]`` float32.

        Args:
            weight: ``[rows, columns]`` float32.
            seen: what text shows of the layer.
        """

    def prune(self, weight: Tensor, seen: LayerStatistics, pattern: Pattern) -> PrunedWeight:
        floats = weight.float()
        kept = pattern.keep(self.scores(floats, seen))
        return PrunedWeight(floats * kept, kept)
