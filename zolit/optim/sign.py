"""Stochastic gradient descent on the signs of projected gradients."""

from typing import ClassVar

import torch
from torch import Tensor

from zolit.optim.sgd import ZOSGD


class ZOSignSGD(ZOSGD):
    """`ZOSGD` on the sign of each projected gradient (ZO-SGD-Sign of ZO-Bench, arXiv 2402.11592).

    Every step has the same length whatever the loss, which makes ``lr`` easy to choose and
    outliers harmless. It has no default: ``lr`` counts coordinate units here, not squared ones.

    Example:
        >>> ZOSignSGD([torch.zeros(1)], lr=0.1).direction_factors(torch.tensor([1.0, -3.0]))
        tensor([ 0.5000, -0.5000])
    """

    needs_lr: ClassVar[str | None] = "the length of every step, in units of the coordinate"

    def direction_factors(self, values: Tensor) -> Tensor:
        return torch.sign(values) / values.numel()
