"""eps and learning rate that fit a recipe, from what its loss does along random directions.

    python benchmarks/rates.py configs/head_to_head/qzo_trec.yaml

Masks, units and tasks differ in the rates that they bear by orders of magnitude, so that a grid
for each of them costs more than the runs themselves. One look at the start weights gives both.
Along a direction z the loss of a batch is, for short steps t,

    L(theta + t z) = L + mu t + c t^2 / 2,    mu = g.z,    c = z'Hz.

A step of SGD goes t = -lr mu_1, with the slope that its batch shows. On another batch, of slope
mu_2 and curvature c, it changes the loss by ``-lr mu_1 mu_2 + lr^2 mu_1^2 c / 2``. The rate of the
largest mean gain is therefore

    lr* = E[mu_1 mu_2] / E[mu_1^2 c]

over directions and pairs of batches. With two different batches the noise of the slopes is in the
denominator alone, where it belongs. mu and c are central differences:
``mu = (L+ - L-) / 2 eps`` and ``c = (L+ + L- - 2 L) / eps^2``. eps is such that a read changes the
loss by ``effect`` (root of the mean square over directions): much more than bfloat16 rounds away,
little enough for the two terms above. Equal effects make reads of different coordinates alike.

lr* is the best single step at the start. n directions a step bear about n times that.
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

from zolit.datamodules import PromptDataModule
from zolit.noise import fold
from zolit.quiet import quiet_libraries
from zolit.strategies import Losses, TwoPoint
from zolit.training.zero_order import ZeroOrderModule

EFFECT = 0.05
DIRECTIONS, BATCHES = 6, 2
SEED = 7
"""Of rows, batches and directions: no run that is reported has it."""


@dataclass(frozen=True)
class Rates:
    """What was found at the start weights.

    Attributes:
        eps: step of a read, in units of the coordinate.
        lr: lr* above, for one direction a step.
        slope: root of E[mu^2], loss per unit of the coordinate.
        curvature: E[c], loss per squared unit.
        gain: by how much lr* lowers the loss in one step, ``lr* E[mu_1 mu_2] / 2``.
    """

    eps: float
    lr: float
    slope: float
    curvature: float
    gain: float


@torch.no_grad()
def measure(
    module: ZeroOrderModule, batches: Sequence[Any], keys: Sequence[int], eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Slopes and curvatures, both ``[directions, batches]`` float64."""
    slopes = torch.empty(len(keys), len(batches), dtype=torch.float64)
    curvatures = torch.empty_like(slopes)
    for column, batch in enumerate(batches):
        losses = Losses(module.objective, module.network, module.objective.draw(batch, 0))
        rest = float(losses(1))
        for row, key in enumerate(keys):
            found = TwoPoint().estimate(losses, module.reading, [key], eps, module.pairable)
            slopes[row, column] = float(found.values)
            curvatures[row, column] = 2 * (float(found.loss) - rest) / eps**2
    return slopes, curvatures


def best_rate(slopes: torch.Tensor, curvatures: torch.Tensor) -> tuple[float, float]:
    """lr* and its gain, from slopes and curvatures ``[directions, batches]``."""
    batches = slopes.shape[1]
    apart = ~torch.eye(batches, dtype=torch.bool)
    products = slopes[:, :, None] * slopes[:, None, :]
    gain = float(products[:, apart].mean())
    # The step along one batch's slope meets the curvature of another.
    cost = float((slopes.square()[:, :, None] * curvatures[:, None, :])[:, apart].mean())
    if gain <= 0 or cost <= 0:
        return math.nan, math.nan
    return gain / cost, gain**2 / cost / 2


def find_rates(
    module: ZeroOrderModule,
    batches: Sequence[Any],
    directions: int = DIRECTIONS,
    effect: float = EFFECT,
    seed: int = SEED,
) -> Rates:
    """eps and rate of a module whose model is loaded; nothing is moved.

    Args:
        module: its objective must not compare reads (`OptionScoring` with ``shared: 1``), as
            curvature is of the loss itself.
        batches: two or more.
        directions: how many are looked along.
        effect: change of the loss that a read shall make.
        seed: of the directions.
    """
    module.network.eval()
    keys = [fold(seed, 0, 0, number) for number in range(directions)]
    eps = module.perturber.eps
    # Where eps is too short, what bfloat16 rounds away stands for the slope, and eps grows by less
    # than it should: a few rounds settle it.
    for _ in range(3):
        slopes, _ = measure(module, batches[:1], keys[:3], eps)
        eps *= min(10.0, max(0.1, effect / (eps * float(slopes.square().mean().sqrt()))))
    slopes, curvatures = measure(module, batches, keys, eps)
    lr, gain = best_rate(slopes, curvatures)
    slope = float(slopes.square().mean().sqrt())
    return Rates(eps, lr, slope, float(curvatures.mean()), gain)


def main() -> None:
    """Print what fits a recipe."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--directions", type=int, default=DIRECTIONS)
    parser.add_argument("--batches", type=int, default=BATCHES)
    parser.add_argument("--effect", type=float, default=EFFECT)
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
    batches = list(islice(data.train_dataloader(), arguments.batches))
    chosen = arguments.directions, arguments.effect, arguments.seed
    print(find_rates(module, batches, *chosen))


if __name__ == "__main__":
    main()
