"""eps and learning rate of `ablation.py`: one fall of the loss for all masks and fractions.

Masks and fractions differ in the rates that they bear by orders of magnitude. For a comparison of
them all runs should be as long in the same sense; `zolit fit --find_lr` proposes the rate of a
single recipe instead, from what a whole run may cost (docs/methods/learning_rates.md). Here, along
a direction z the loss of a batch changes, for short steps t, by ``mu t`` with ``mu = g.z``.

- eps: ``effect / s`` with s the root of E[mu^2], so that a read changes the loss by ``effect``:
  much more than bfloat16 rounds away, little enough for a difference to be a derivative.
- lr: a step of SGD goes ``-lr mu`` along z, which to first order lowers the loss of its own batch
  by ``lr mu^2``. ``lr = fall / s^2`` makes that the same fall on average for all.

Why one ``fall`` can serve all masks, fractions and units of a task: the step pays
``lr^2 mu^2 z'Hz / 2``. Where the Hessian H is near the Fisher matrix F (Martens, arXiv 1412.1193),
z'Hz is near ``z'Fz``, the mean of mu^2 over single rows: coordinates on which slopes are twice as
steep meet four times the curvature.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import waiting  # noqa: F401
import torch
from torch import Tensor

from zolit.noise import fold
from zolit.strategies import Losses, TwoPoint
from zolit.training.zero_order import ZeroOrderModule

EFFECT, FALL = 0.05, 0.02
DIRECTIONS = 8
SEED = 7
"""Of rows, batches and directions: no run that is reported has it."""


@dataclass(frozen=True)
class Rates:
    """What was found at the start weights.

    Attributes:
        eps: step of a read, in units of the coordinate.
        lr: learning rate for one direction a step, in squared units for a unit of loss.
        slope: root of E[mu^2], loss per unit of the coordinate.
    """

    eps: float
    lr: float
    slope: float


def rates_for(slopes: Tensor, effect: float = EFFECT, fall: float = FALL) -> Rates:
    """eps and lr from slopes along some directions, ``[directions]``."""
    square = float(slopes.double().square().mean())
    return Rates(effect / math.sqrt(square), fall / square, math.sqrt(square))


@torch.no_grad()
def find_rates(
    module: ZeroOrderModule,
    batches: Sequence[Any],
    effect: float = EFFECT,
    fall: float = FALL,
    seed: int = SEED,
) -> Rates:
    """eps and rate of a module whose model is loaded; nothing is moved.

    Args:
        module: reads its weights.
        batches: two or more; a direction of its own is looked along with each.
        effect: change of the loss that a read shall make.
        fall: of the loss of a step's own batch, to first order.
        seed: of the directions.
    """
    module.network.eval()
    keys = [fold(seed, 0, 0, number) for number in range(len(batches))]
    eps = module.perturber.eps
    # Where eps is too short, what bfloat16 rounds away stands for the slope, and eps grows by less
    # than it should: three rounds settle it.
    for few in (2, 2, len(batches)):
        some = zip(batches[:few], keys[:few], strict=True)
        slopes = [slope(module, batch, key, eps) for batch, key in some]
        found = rates_for(torch.tensor(slopes), effect, fall)
        eps = found.eps
    return found


def slope(module: ZeroOrderModule, batch: Any, key: int, eps: float) -> float:
    """Slope of the loss of a batch along the direction of a key, per unit of the coordinate."""
    losses = Losses(module.objective, module.network, module.objective.draw(batch, 0))
    found = TwoPoint().estimate(losses, module.reading, [key], eps, module.pairable)
    return float(found.values)
