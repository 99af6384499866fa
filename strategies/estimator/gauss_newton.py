"""The best step in the span of several directions, from the scores of every row of a batch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from zolit.arguments import positive
from zolit.errors import UserError
from zolit.objectives.base import Scored
from zolit.strategies.estimator.base import Estimate, Estimator, Losses
from zolit.tensors.extent import common_importance_weight
from zolit.tensors.reading import Reading

ITERATIONS = 50
"""Most iterations of Newton's method, which needs about six, and more if the damping is small."""
TOLERANCE = 1e-12
"""Newton's method stops when its decrement, an estimate of the loss to be gained, is below this."""
ROUNDING = 1e-6
"""Relative rounding error of float32 slopes: smaller differences between answers count as 0."""


@dataclass(frozen=True)
class Linearization(Estimate):
    """The scores of a batch as a linear function of the step along each direction.

    Attributes:
        scores: ``[B, C]`` float32, with the weights as stored.
        slopes: ``[Q, B, C]`` float32, scores per unit of the coordinate.
        targets: ``[B]`` int64, index of the right answer.
        importance_weight: the factor of a step along each direction (`Support.importance_weight`).
    """

    scores: Tensor
    slopes: Tensor
    targets: Tensor
    importance_weight: float


class GaussNewton(Estimator):
    """Gauss-Newton in the random subspace that a step's directions span.

    `TwoPoint` keeps one number for each direction, the slope of the mean loss. The same forward
    pass also shows the slope of every score of every row. Let ``s_b`` be the scores of row b and
    ``D_bq`` their derivative along direction q, estimated by one difference. A step solves

        ``min_c mean_b CE(s_b + sum_q c_q D_bq, y_b) + damping / 2 * k * |c|^2``

    by Newton's method, and moves by ``sum_q c_q z_q``. So the loss is an exact function of the
    scores, and the scores are taken as a linear function of the weights. ``k`` is the mean over
    rows of ``sum_q |D_bq|^2``, without the part that all answers share, so that ``damping`` has no
    unit. With a large damping the step becomes the gradient step ``c = -d / (damping * k)``, where
    d are one-sided differences of the loss.

    The random subspaces are those of Cartis, Fowkes and Shao, arXiv 2211.09873, Section 4. zolit
    departs from them in two ways: Newton's method minimizes the loss itself instead of a quadratic
    model of it, and a ridge takes the place of the trust region.

    The method needs many rows for each direction: with fewer rows than directions the solution
    fits the rows of the batch alone. Take 16 or more directions, ten rows for each of them
    (``micro_batches`` collects rows), and `ZOSGD` with lr 1, which makes the whole step, or less.

    A step takes one read along each direction and one of the stored weights. No two reads share a
    pass, so `OptionScoring` needs ``shared: 1``. Directions have mean zero, so a change of a row's
    scores that all directions share is no slope. It comes from the curvature in a one-sided
    difference (``eps / 2`` times the trace of a Hessian) and from rounding in the read of the
    stored weights. It is subtracted, which costs one direction.

    Args:
        damping: weight of the ridge, positive. The larger it is, the shorter the step.

    Raises:
        UserError: if ``damping`` is out of range.

    Example:
        ::

            estimator:
              class_path: GaussNewton
              init_args:
                damping: 0.01
            query_scheduler:
              class_path: ConstantQueries
              init_args:
                n: 32
    """

    needs = Scored
    default_lr = 1.0  # the whole step
    one_sided = True

    def __init__(self, damping: float = 0.01) -> None:
        positive("damping", damping, "try 0.01")
        self.damping = damping

    def estimate(
        self, losses: Losses, reading: Reading, keys: list[int], eps: float, pairable: bool
    ) -> Linearization:
        if len(keys) < 2:
            raise UserError(
                f"query_scheduler: got {len(keys)} directions a step, GaussNewton needs 2 at "
                "least; try ConstantQueries with n: 32"
            )
        objective: Any = losses.objective
        scores, targets = losses.scores().float(), objective.targets(losses.batch)
        slopes = []
        for key in keys:
            with reading.perturbed(key, eps, copies=1):
                slopes.append((losses.scores().float() - scores) / eps)
        residual = scores.softmax(dim=1) - F.one_hot(targets, scores.shape[1])
        found = torch.stack(slopes)
        return Linearization(
            values=(found * residual).sum(dim=2).mean(dim=1),
            loss=F.cross_entropy(scores, targets),
            scores=scores,
            slopes=found,
            targets=targets,
            importance_weight=common_importance_weight(reading, "GaussNewton", "TwoPoint"),
        )

    def combine(self, estimates: Sequence[Estimate]) -> Tensor:
        """``-Q c / importance_weight``, from which an optimizer with lr 1 makes the step ``c``."""
        parts = [part for part in estimates if isinstance(part, Linearization)]
        scores = torch.cat([part.scores for part in parts]).double()
        slopes = torch.cat([part.slopes for part in parts], dim=1).double()
        targets = torch.cat([part.targets for part in parts])
        good = (slopes + scores).isfinite().flatten(1).all(dim=1)
        values = torch.full((len(slopes),), math.nan, dtype=torch.float64, device=scores.device)
        if good.any():
            slopes = slopes[good]
            step = solve(scores, slopes - slopes.mean(dim=0), targets, self.damping)
            values[good] = -len(step) * step / parts[0].importance_weight
        return values.float()


def solve(scores: Tensor, slopes: Tensor, targets: Tensor, damping: float) -> Tensor:
    """The step of `GaussNewton`.

    Args:
        scores: ``[B, C]`` float64.
        slopes: ``[Q, B, C]`` float64.
        targets: ``[B]`` int64.
        damping: see `GaussNewton`.

    Returns:
        ``c``, ``[Q]`` float64. It is zero where every direction changes the scores of all answers
        alike.
    """
    relative = slopes - slopes.mean(dim=2, keepdim=True)
    size, whole = (part.square().sum(dim=(0, 2)).mean() for part in (relative, slopes))
    step = slopes.new_zeros(len(slopes))
    if size <= ROUNDING**2 * whole:
        return step
    ridge = damping * size
    wanted = F.one_hot(targets, scores.shape[1])

    def moved(step: Tensor) -> Tensor:
        return scores + torch.tensordot(step, slopes, dims=1)

    def loss(step: Tensor) -> Tensor:
        return F.cross_entropy(moved(step), targets) + ridge / 2 * step.square().sum()

    for _ in range(ITERATIONS):
        odds = moved(step).softmax(dim=1)
        gradient = (slopes * (odds - wanted)).sum(dim=2).mean(dim=1) + ridge * step
        spread = (slopes - (slopes * odds).sum(dim=2, keepdim=True)).flatten(1)
        hessian = (spread * odds.flatten()) @ spread.T / len(scores)
        hessian.diagonal().add_(ridge)
        change = torch.linalg.solve(hessian, gradient)
        decrement = gradient @ change
        if decrement <= TOLERANCE:
            break
        length, now = 1.0, loss(step)
        while loss(step - length * change) > now - length / 4 * decrement and length > TOLERANCE:
            length /= 2
        step = step - length * change
    return step
