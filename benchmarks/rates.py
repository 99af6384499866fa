"""eps and learning rate that fit a recipe, from what its loss does along random directions.

    python benchmarks/rates.py configs/head_to_head/qzo_trec.yaml

Masks, units and tasks differ in the rates that they bear by orders of magnitude, so that a grid
for each of them costs more than the runs themselves. One look at the start weights gives both.
Along a direction z the loss of a batch changes, for short steps t, by ``mu t`` with ``mu = g.z``.

- eps: ``effect / s`` with s the root of E[mu^2], so that a read changes the loss by ``effect``:
  much more than bfloat16 rounds away, little enough for a difference to be a derivative.
- lr: a step of SGD goes ``-lr mu`` along z, which to first order lowers the loss of its own batch
  by ``lr mu^2``. ``lr = fall / s^2`` makes that the same fall on average for all.

Why one ``fall`` can serve all masks, fractions and units of a task: the step pays
``lr^2 mu^2 z'Hz / 2``. Where the Hessian H is near the Fisher matrix F (Martens, arXiv 1412.1193),
z'Hz is near ``z'Fz``, the mean of mu^2 over single rows: coordinates on which slopes are twice as
steep meet four times the curvature. How far this holds is for runs with other factors to show.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import waiting  # noqa: F401
import torch
from held_out import BuiltCLI
from torch import Tensor

from zolit.datamodules import PromptDataModule
from zolit.noise import fold
from zolit.quiet import quiet_libraries
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
        slopes = [_slope(module, batch, key, eps) for batch, key in some]
        found = rates_for(torch.tensor(slopes), effect, fall)
        eps = found.eps
    return found


def _slope(module: ZeroOrderModule, batch: Any, key: int, eps: float) -> float:
    losses = Losses(module.objective, module.network, module.objective.draw(batch, 0))
    found = TwoPoint().estimate(losses, module.reading, [key], eps, module.pairable)
    return float(found.values)


def main() -> None:
    """Print what fits a recipe."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--directions", type=int, default=DIRECTIONS)
    parser.add_argument("--effect", type=float, default=EFFECT)
    parser.add_argument("--fall", type=float, default=FALL)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--option", nargs="*", default=[], help="of zolit fit, without dashes")
    arguments = parser.parse_args()
    quiet_libraries()
    options = [f"--{one}" for one in arguments.option]
    seeds = ["--model.seed", str(arguments.seed), "--data.init_args.seed", str(arguments.seed)]
    given = ["test", "--config", str(arguments.config), *options, *seeds]
    cli = BuiltCLI(ZeroOrderModule, PromptDataModule, given)
    module, data = cli.model, cli.datamodule
    data.prepare_data()
    data.setup("fit")
    module.configure_model()
    batches = list(islice(data.train_dataloader(), arguments.directions))
    print(find_rates(module, batches, arguments.effect, arguments.fall, arguments.seed))


if __name__ == "__main__":
    main()
