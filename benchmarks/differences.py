"""What a direction costs and how far its difference is off: both sides, or one with a shared base.

    OMP_NUM_THREADS=2 python benchmarks/differences.py --sst2 data/sst2/stsa.binary.train

The model and the moving weights are those of configs/qzo/gguf_sst2.yaml (factors of the output
channels of SmolLM2's layers 20 to 29, its own Q4_1 blocks, bfloat16). Errors are those of the
projected gradients of a batch as a fraction of their length, against central differences in float32
at a small eps along the same directions on the same rows; and of both less their mean over the
directions, which is what a centered step is made of. Times are medians over the batches.
"""

import argparse
import statistics
import time
from collections import defaultdict
from pathlib import Path

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from smollm2 import SOURCE
from torch import Tensor

from zolit.datamodules import FileRows, PromptDataModule
from zolit.noise import fold
from zolit.objectives.option_scoring import OptionScoring
from zolit.quiet import quiet_libraries
from zolit.strategies import Estimator, Losses, OneSided, ScalePerturber, Stored, TwoPoint
from zolit.training.zero_order import ZeroOrderModule

EXACT_EPS = 2e-3
VARIANTS: list[tuple[str, Estimator, float]] = [
    ("both sides", TwoPoint(), 0.02),
    ("both sides", TwoPoint(), 0.05),
    ("one side", OneSided(), 0.02),
    ("one side", OneSided(), 0.05),
    ("one side", OneSided(), 0.1),
]


def module(dtype: str, shared: float) -> ZeroOrderModule:
    """SmolLM2 with its last ten layers' output scales ready to move."""
    one = ZeroOrderModule(
        SOURCE,
        Stored(),
        ScalePerturber(),
        objective=OptionScoring(shared),
        tune=["model.layers.2[0-9].*_proj.weight"],
        dtype=dtype,
        compile="blocks",
    )
    one.configure_model()
    one.network.eval()
    return one


def values(
    one: ZeroOrderModule, estimator: Estimator, eps: float, batch: object, keys: list[int]
) -> Tensor:
    """Projected gradients of a batch, before the estimator's last word."""
    losses = Losses(one.objective, one.network, batch)
    with torch.no_grad(), one.reading.same_batch():
        found = estimator.estimate(losses, one.reading, keys, eps, one.pairable)
    return found.values.double()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sst2", type=Path, required=True, help="stsa.binary.train")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--directions", type=int, default=16)
    parser.add_argument("--shared", type=float, default=0.2, help="of OptionScoring")
    arguments = parser.parse_args()
    quiet_libraries()
    rows = FileRows(str(arguments.sst2), format="lines")
    count = arguments.rows * arguments.batches
    data = PromptDataModule(
        "sst2_review", rows, SOURCE, train_size=count, batch_size=arguments.rows
    )
    data.setup()
    batches = list(data.train_dataloader())
    keys = [fold(0, number) for number in range(arguments.directions)]

    exact = module("float32", arguments.shared)
    wanted = [values(exact, TwoPoint(), EXACT_EPS, batch, keys) for batch in batches]
    del exact
    one = module("bfloat16", arguments.shared)
    times, errors = defaultdict(list), defaultdict(list)
    for number, (batch, truth) in enumerate(zip(batches, wanted, strict=True)):
        for place, (_, estimator, eps) in enumerate(VARIANTS):
            started = time.perf_counter()
            found = values(one, estimator, eps, batch, keys)
            if number > 0:  # the first compiles
                times[place].append(time.perf_counter() - started)
            errors[place].append((_error(found, truth), _error(_centered(found), _centered(truth))))
    table = Table(
        "difference", "eps", "error", "centered", "ms a direction and row", "of both sides"
    )
    both = statistics.median(times[0])
    for place, (name, _, eps) in enumerate(VARIANTS):
        each = statistics.median(times[place])
        cost = 1e3 * each / (arguments.directions * arguments.rows)
        error, centered = (f"{statistics.mean(e):.2f}" for e in zip(*errors[place], strict=True))
        table.add_row(name, f"{eps:g}", error, centered, f"{cost:.2f}", f"{each / both:.2f}")
    Console().print(table)


def _centered(values: Tensor) -> Tensor:
    return values - values.mean()


def _error(found: Tensor, truth: Tensor) -> float:
    return float((found - truth).norm() / truth.norm())


if __name__ == "__main__":
    main()
