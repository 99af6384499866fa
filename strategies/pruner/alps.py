"""Prune by ADMM and solve for the weights that are left: ALPS."""

from typing import ClassVar

import torch
from torch import Tensor

from zolit.calibration.layer_statistics import LayerStatistics
from zolit.errors import UserError
from zolit.strategies.pruner.base import PrunedWeight, Pruner
from zolit.strategies.pruner.pattern import Pattern

_EVERY = 3
"""ADMM iterations between two looks at how much the support has changed."""

_GROWTH = ((0.1, 1.3), (0.005, 1.2), (0.0, 1.1))
"""By what the penalty grows, by the share of the support that has changed since the last look."""


class ALPS(Pruner):
    """The zeros and the values that keep a layer's outputs (Meng et al. 2024, arXiv 2406.07831).

    ADMM looks for weights D with the pattern's zeros that are least far from the dense ones in
    ``||(D - W) X||``, with a penalty that grows until the zeros stay where they are (Algorithm 1
    and section 3.2). Then conjugate gradients find the best values of the entries that are left
    (Algorithm 2). Columns are scaled first so that the second moments have a diagonal of 1.

    Beside the paper: conjugate gradients take a step length for each row, since rows are problems
    of their own; the paper takes one for all.

    Args:
        rho: penalty to begin with, in units of the scaled problem.
        damping: added to the diagonal of the second moments, as a fraction of its mean.
        iterations: most ADMM iterations.
        gradient_steps: of conjugate gradients on the entries that are left.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> from zolit.strategies.pruner.pattern import Ratio
        >>> seen = LayerStatistics(torch.ones(2), 1, torch.tensor([[1.0, 0.9], [0.9, 1.0]]))
        >>> found = ALPS().prune(torch.tensor([[1.0, 2.0]]), seen, Ratio(0.5))
        >>> found.kept, round(float(found.values[0, 1]), 2)  # it takes over what the other did
        (tensor([[False,  True]]), 2.89)
    """

    needs_moments: ClassVar[bool] = True

    def __init__(
        self,
        rho: float = 0.1,
        damping: float = 0.01,
        iterations: int = 300,
        gradient_steps: int = 10,
    ) -> None:
        if not 0 < rho < float("inf"):
            raise UserError(f"rho: got {rho}, expected a positive number; try 0.1")
        if not 0 < damping < 1:
            raise UserError(f"damping: got {damping}, expected a number in (0, 1); try 0.01")
        for name, value, least in (
            ("iterations", iterations, 1),
            ("gradient_steps", gradient_steps, 0),
        ):
            if value < least:
                raise UserError(f"{name}: got {value}, expected at least {least}; try 10")
        self.rho = rho
        self.damping = damping
        self.iterations = iterations
        self.gradient_steps = gradient_steps

    def prune(self, weight: Tensor, seen: LayerStatistics, pattern: Pattern) -> PrunedWeight:
        if seen.moments is None:
            raise UserError(
                "pruner ALPS: got no second moments of the layer; prune with PruningModule, which "
                "computes them"
            )
        moments = seen.moments.clone()
        diagonal = moments.diagonal()
        mean = diagonal.mean()
        diagonal[diagonal == 0] = 1
        diagonal += self.damping * mean
        size = diagonal.sqrt()
        # With v = w * size and H = diag(1/size) M diag(1/size), w M w^T is v H v^T.
        scaled = moments / torch.outer(size, size)
        dense = weight.float() * size
        left = admm(dense, scaled, pattern, self.rho, self.iterations)
        kept = left.kept
        values = best_values(dense, left.values, kept, scaled, self.gradient_steps)
        return PrunedWeight(values / size, kept)


def admm(
    dense: Tensor, moments: Tensor, pattern: Pattern, rho: float, iterations: int
) -> PrunedWeight:
    """Weights with a pattern's zeros near ``dense`` in the norm of ``moments`` (Algorithm 1).

    Args:
        dense: ``[rows, columns]`` float32.
        moments: ``[columns, columns]`` float32, positive definite with a diagonal of 1.
        pattern: which zeros.
        rho: penalty to begin with.
        iterations: at most so many.
    """
    values, vectors = (one.float() for one in torch.linalg.eigh(moments.double()))
    wanted = dense @ moments
    kept = pattern.keep(dense.abs())
    sparse, dual = dense * kept, torch.zeros_like(dense)
    before, total = kept, max(int(kept.sum()), 1)
    for iteration in range(1, iterations + 1):
        right = wanted - dual + rho * sparse
        whole = ((right @ vectors) / (values + rho)) @ vectors.t()
        moved = whole + dual / rho
        kept = pattern.keep(moved.abs())
        sparse = moved * kept
        dual += rho * (whole - sparse)
        if iteration % _EVERY:
            continue
        changed = int((kept ^ before).sum())
        if not changed:
            break
        rho *= next(growth for share, growth in _GROWTH if changed >= share * total)
        before = kept
    return PrunedWeight(sparse, kept)


def best_values(dense: Tensor, start: Tensor, kept: Tensor, moments: Tensor, steps: int) -> Tensor:
    """The values of the entries that are left, nearest to ``dense`` in the norm of ``moments``.

    By conjugate gradients with the diagonal of the moments as preconditioner; each row is a problem
    of its own (Algorithm 2).

    Args:
        dense: ``[rows, columns]`` float32.
        start: the values to begin with, 0 where ``kept`` is not.
        kept: ``[rows, columns]`` bool.
        moments: ``[columns, columns]`` float32, positive definite.
        steps: exact after as many as a row has entries, but for rounding.

    Returns:
        ``[rows, columns]`` float32, 0 where ``kept`` is not.
    """
    values, diagonal = start.clone(), moments.diagonal()
    residual = ((dense - values) @ moments) * kept
    direction = scaled = residual / diagonal
    size = (residual * scaled).sum(1, keepdim=True)
    for _ in range(steps):
        image = direction @ moments
        curvature = (direction * image).sum(1, keepdim=True)
        length = torch.where(curvature > 0, size / curvature.clamp(min=1e-38), 0.0)
        values += length * direction
        residual = residual - length * (image * kept)
        scaled = residual / diagonal
        later = (residual * scaled).sum(1, keepdim=True)
        ratio = torch.where(size > 0, later / size.clamp(min=1e-38), 0.0)
        direction, size = scaled + ratio * direction, later
    return values * kept
