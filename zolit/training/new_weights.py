"""An optimizer that sets weights to values that are given."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


class NewWeights(torch.optim.Optimizer):
    """Copies new values into weights. It stands where Lightning counts the steps of an optimizer.

    Args:
        params: the weights.

    Example:
        >>> weight = torch.zeros(2)
        >>> NewWeights([weight]).step(values=[(weight, torch.ones(2))])
        >>> weight.tolist()
        [1.0, 1.0]
    """

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})

    @torch.no_grad()
    def step(self, closure: Any = None, values: Sequence[tuple[Tensor, Tensor]] = ()) -> None:  # type: ignore[override]
        """Set each weight to its new value.

        Args:
            closure: of Lightning; not called, as there is no loss.
            values: weights with their new values, which are rounded to the weight's dtype.
        """
        for weight, value in values:
            weight.copy_(value)
