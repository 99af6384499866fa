"""The difference along each direction from one read of the stored weights."""

import torch
from torch import Tensor

from zolit.strategies.estimator.base import Estimate, Estimator, Losses
from zolit.tensors.reading import Reading


class OneSided(Estimator):
    """``(L(theta + eps z) - L(theta)) / eps`` (FZOO, arXiv 2506.09034, without its step length).

    Q directions cost Q + 1 reads instead of the 2 Q of `TwoPoint`. Each difference has two errors.
    One is ``eps / 2 * z'Hz``, whose mean is the same for all directions. The other is the error of
    the read of the stored weights, which is the same number in all differences. Directions have
    mean zero, so a part that all differences share says nothing about the gradient, and
    ``centered`` removes it.

    Args:
        centered: subtract from each difference the mean over the step's directions, and multiply by
            ``Q / (Q - 1)``, which keeps the estimate unbiased. With many coordinates the variance
            is multiplied by this factor, but the part of it that all differences share is gone. A
            single direction stays as it is.

    Example:
        >>> OneSided().finish(torch.tensor([1.0, 3.0]))
        tensor([-2.,  2.])
    """

    compares = True
    one_sided = True

    def __init__(self, centered: bool = True) -> None:
        self.centered = centered

    def estimate(
        self, losses: Losses, reading: Reading, keys: list[int], eps: float, pairable: bool
    ) -> Estimate:
        rest = losses.read()
        pairs = []
        for key in keys:
            with reading.perturbed(key, eps, copies=1):
                moved = losses.read()
            pairs.append(losses.compare([rest, moved]))
        found = torch.stack(pairs).float()
        return Estimate((found[:, 1] - found[:, 0]) / eps, losses.compare([rest])[0])

    def finish(self, values: Tensor) -> Tensor:
        count = len(values)
        if not self.centered or count < 2:
            return values
        return (values - values.mean()) * (count / (count - 1))
