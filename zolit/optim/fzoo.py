"""Steps whose length does not depend on the size of the losses (FZOO)."""

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.optim.base import StepParts
from zolit.optim.sgd import ZOSGD
from zolit.strategies import SVRG


class FZOO(ZOSGD):
    """`ZOSGD` over the standard deviation of a step's losses (FZOO, arXiv 2506.09034).

    ``theta <- theta - lr / Q * sum_q (values[q] / sigma) * z_q``, with sigma the standard deviation
    of ``values``. Values are differences of losses over eps, so this is the paper's ratio
    ``(l_q - l_0) / std(l)``, in which eps cancels. Sigma is an estimate of the length of the
    gradient: on a linear loss this is gradient descent with a normalized gradient. Steps are long
    where the loss is flat and short where it is steep. The paper's estimator is `OneSided` with
    ``centered: false``; centering changes sigma and values by the same factor.

    A step of fewer than two directions, or of equal losses, has no sigma: nothing moves.

    Args:
        params: perturbed weights.
        lr: a step moves each coordinate by ``lr / sqrt(Q)`` or so, in its unit, whatever the scale
            of the loss. It has no default.
        unbiased: divide the sum of squares by Q - 1, so that the squared sigma is unbiased whatever
            Q is. The released code divides by Q; the ratio is a factor of lr.
        error_feedback: see `ZOSGD`.
        feedback_decay: see `ZOSGD`.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> FZOO([torch.zeros(1)], lr=0.1).direction_factors(torch.tensor([20.0, -20.0, 0.0]))
        tensor([ 0.3333, -0.3333,  0.0000])
    """

    needs_lr: ClassVar[str | None] = (
        "the move of a coordinate, in its unit, times the square root of the number of directions"
    )

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float | None = None,
        unbiased: bool = True,
        error_feedback: bool = False,
        feedback_decay: float = 1.0,
    ) -> None:
        super().__init__(params, lr, error_feedback, feedback_decay)
        self.unbiased = unbiased

    def check(self, parts: StepParts) -> None:
        """Refuse runs of one direction a step, and slopes that are not of one batch.

        Raises:
            UserError: naming both parts.
        """
        if parts.queries < 2:
            raise UserError(
                f"optimizer: {type(self).__name__} needs several directions a step, from whose "
                f"losses it takes its length, got query_scheduler with {parts.queries}; set "
                "query_scheduler.n: 8, or use ZOSignSGD, which needs one"
            )
        if isinstance(parts.estimator, SVRG):
            raise UserError(
                f"optimizer: {type(self).__name__} takes its step length from the spread of a "
                "batch's slopes, got estimator SVRG, which joins those of an anchor to them; use "
                "OneSided, or ZOSGD with it"
            )

    def direction_factors(self, values: Tensor) -> Tensor:
        if values.numel() < 2:
            return torch.zeros_like(values)
        found = values.double()
        sigma = found.std(correction=int(self.unbiased))
        if not sigma > 0:
            return torch.zeros_like(values)
        return (found / (values.numel() * sigma)).to(values.dtype)
