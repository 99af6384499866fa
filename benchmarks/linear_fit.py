"""What tuning output scales can reach where scores are linear in them, and how few do it.

    python benchmarks/linear_fit.py --sst2 data/sst2

Backpropagation gives each row's gradient of its margin (the score of the second answer less that
of the first) by the factor of every output channel of layers 10 to 29, and of the last norm. To
first order that is all there is to know of the model, and tuning is logistic regression on it.
Printed are

- the fit: loss and accuracy on SST-2's dev set after ridge regression on all factors of some
  layers, for several ridges: a bound for whatever tunes them with these rows;
- the sketch: the same on a few random combinations of factors, as `GaussNewton` finds it in one
  step, over how many;
- the concentration: the part of the noise, and of the signal, that the noisiest channels hold.

A ridge is in units of the mean squared length of a row's gradient.
"""

import argparse
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import waiting  # noqa: F401
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from smollm2 import SOURCE
from torch import Tensor, nn

from zolit.datamodules import FileRows, PromptDataModule
from zolit.models.loading.load import load_model
from zolit.objectives.option_scoring import OptionScoring
from zolit.quiet import quiet_libraries

SITES = r"layers\.[12]\d\..*_proj$|^model\.norm$"
SETS = {
    "last norm": r"^model\.norm$",
    "layer 29": r"\.29\.",
    "layers 25 to 29": r"\.2[5-9]\.",
    "layers 20 to 29": r"\.2\d\.",
    "layers 15 to 29": r"\.(1[5-9]|2\d)\.",
    "layers 10 to 29": r"\.[12]\d\.",
    "layers 20 to 29, last norm": r"\.2\d\.|^model\.norm$",
}
RIDGES = (1e-3, 1e-4, 3e-5, 1e-5)
SKETCHED = "layers 20 to 29"


class Gradients:
    """Of margins, row by row: a factor for every row and channel makes them in one pass."""

    def __init__(self) -> None:
        self.model = load_model(SOURCE, torch.float32).eval().requires_grad_(False)
        self.widths: dict[str, int] = {}
        self._factors: dict[str, Tensor] = {}
        for name, module in self.model.named_modules():
            if re.search(SITES, name):
                self.widths[name] = width = len(module.weight)
                module.register_forward_hook(self._hook(name, width))

    def _hook(self, name: str, width: int) -> Any:
        def scale(module: nn.Module, inputs: Any, out: Tensor) -> Tensor:
            self._factors[name] = torch.ones(len(out), 1, width, requires_grad=True)
            return out * self._factors[name]

        return scale

    def of(self, batches: Iterable[Any], rows: int) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients ``[rows, factors]``, margins ``[rows]`` and signs of the answers ``[rows]``."""
        objective, found, count = OptionScoring(), [], 0
        for batch in batches:
            scores = objective.scores(self.model, batch)
            margins = scores[:, 1] - scores[:, 0]
            parts = torch.autograd.grad(margins.sum(), list(self._factors.values()))
            gradient = torch.cat([part.squeeze(1) for part in parts], dim=1)
            found.append((gradient, margins.detach(), 2.0 * objective.targets(batch) - 1.0))
            count += len(margins)
            if count >= rows:
                break
        gradients, margins, signs = (torch.cat(part)[:rows] for part in zip(*found, strict=True))
        return gradients, margins, signs

    def columns(self, pattern: str) -> Tensor:
        """Whether each factor belongs to a module of the pattern, ``[factors]``."""
        return torch.cat(
            [
                torch.full((width,), re.search(pattern, name) is not None)
                for name, width in self.widths.items()
            ]
        )


def regression(train: tuple[Tensor, Tensor, Tensor], test: Tensor) -> list[Tensor]:
    """Change of the margins of ``test [T, factors]`` by logistic ridge regression on ``train``, for
    each of `RIDGES`.

    By Newton's method on one number a row: the solution is a sum of the rows' gradients.
    """
    features, margins, signs = train
    size = features.square().sum(1).mean()
    kernel = (features @ features.T / size).double()
    offset, found = margins.double(), []
    for ridge in RIDGES:
        weights = torch.zeros_like(offset)
        for _ in range(10):
            moved = offset + kernel @ weights
            odds = moved.sigmoid()
            curvature = (odds * (1 - odds)).clamp_min(1e-4)
            wanted = moved - offset + ((signs + 1) / 2 - odds) / curvature
            system = kernel + torch.diag(ridge * len(kernel) / curvature)
            weights = torch.linalg.solve(system, wanted)
        found.append(test @ (features.T @ weights.float()) / size)
    return found


def judged(margins: Tensor, signs: Tensor) -> str:
    """Accuracy and loss."""
    loss = F.softplus(-signs * margins).mean()
    return f"{float((margins * signs > 0).float().mean()):.4f} ({float(loss):.4f})"


def concentration(train: tuple[Tensor, Tensor, Tensor], chosen: Tensor) -> Table:
    """Parts of noise and signal in the noisiest channels, without what all rows share."""
    gradients, margins, signs = train
    residual = (margins.sigmoid() - (signs + 1) / 2).unsqueeze(1)
    own = residual * (gradients[:, chosen] - gradients[:, chosen].mean(0))
    noise = own.square().mean(0)
    # The product of two halves' means has the squared mean as its expectation.
    signal = own[::2].mean(0) * own[1::2].mean(0)
    order = noise.argsort(descending=True)
    table = Table("noisiest channels", "part of noise", "part of signal", title=SKETCHED)
    for count in (10, 100, 1000, 10000):
        top = order[:count]
        parts = (noise[top].sum() / noise.sum(), signal[top].sum() / signal.sum())
        table.add_row(str(count), *(f"{float(part):.2f}" for part in parts))
    return table


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sst2", type=Path, required=True, help="folder of stsa.binary.*")
    parser.add_argument("--rows", type=int, default=2400, help="to fit; 200 kB each")
    arguments = parser.parse_args()
    quiet_libraries()
    rows, dev = (
        FileRows(path=str(arguments.sst2 / f"stsa.binary.{part}"), format="lines")
        for part in ("train", "dev")
    )
    data = PromptDataModule(
        "sst2_review", rows, SOURCE, test_rows=dev, train_size=6400, test_size=None, batch_size=32
    )
    data.setup()
    gradients = Gradients()
    train = gradients.of(data.train_dataloader(), arguments.rows)
    test, start, signs = gradients.of(data.test_dataloader(), 872)
    console = Console()
    table = Table("factors of", *(f"ridge {ridge:g}" for ridge in RIDGES), title="the fit")
    table.add_row("none", *[judged(start, signs)] * len(RIDGES))
    for name, pattern in SETS.items():
        chosen = gradients.columns(pattern)
        part = (train[0][:, chosen], *train[1:])
        changes = regression(part, test[:, chosen])
        table.add_row(name, *(judged(start + change, signs) for change in changes))
    console.print(table)
    chosen = gradients.columns(SETS[SKETCHED])
    table = Table("directions", *(f"ridge {ridge:g}" for ridge in RIDGES), title="the sketch")
    generator = torch.Generator().manual_seed(0)
    for count in (32, 125, 250, 500, 1000):
        sketch = torch.randn(int(chosen.sum()), count, generator=generator).sign()
        part = (train[0][:, chosen] @ sketch, *train[1:])
        changes = regression(part, test[:, chosen] @ sketch)
        table.add_row(str(count), *(judged(start + change, signs) for change in changes))
    console.print(table)
    console.print(concentration(train, chosen))


if __name__ == "__main__":
    main()
