"""Which layers' output scales are worth moving: signal and noise of their gradient.

    python benchmarks/scale_signal.py --examples 400
    python benchmarks/scale_signal.py --model FOLDER --sst2 data/sst2/stsa.binary.train

Uses backpropagation, as `gradient_signal.py` does, on SmolLM2-135M with int4 weights and training
rows of Rotten Tomatoes; or on the floats of its GGUF file (``--floats``) or of a folder, such as
one that `zolit export` has written, and rows of SST-2. The coordinate is the factor of an output
channel. For sets of layers and projections it estimates

- ``|g|^2``, the squared norm of the mean gradient, without bias from its own noise;
- ``tr F``, the trace of the Fisher matrix: noise of the gradient, and stand-in for curvature;
- the gain of the best step, ``|g|^4 / (2 |g_b|^2 tr F)`` with ``|g_b|^2 = |g|^2 + tr F / 16`` for
  batches of 16, which is what a set is judged by (MeZO, arXiv 2305.17333, Section 4);
- the same of the gradient less what all rows share, ``r (m - v)``: m is the gradient of a row's
  margin, v its mean over rows and r the derivative of the loss by the margin
  (docs/methods/option_scoring.md).
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from smollm2 import REVIEWS, SOURCE
from torch import Tensor, nn

from zolit.datamodules import FileRows, PromptDataModule
from zolit.formats.int4 import Int4Weight
from zolit.models.loading.load import load_model
from zolit.models.source import ModelSource
from zolit.objectives.option_scoring import OptionScoring
from zolit.quiet import quiet_libraries

BATCH, GROUP = 16, 64
COLUMNS = ("|g|^2", "tr F", "best step's gain, 1e-3")
MLP = ("gate", "up", "down")
SETS: dict[str, Callable[[int, str], bool]] = {
    "all layers": lambda layer, name: True,
    "layers 0-9": lambda layer, name: layer < 10,
    "layers 10-24": lambda layer, name: 10 <= layer < 25,
    "layers 20-29": lambda layer, name: layer >= 20,
    "layers 25-29": lambda layer, name: layer >= 25,
    "layers 10-24, attention": lambda layer, name: 10 <= layer < 25 and name not in MLP,
    "layers 10-24, MLP": lambda layer, name: 10 <= layer < 25 and name in MLP,
    "layers 13-25, query and key": lambda layer, name: 13 <= layer < 26 and name in ("q", "k"),
}


def scaled_model(folder: Path | None, floats: bool) -> tuple[nn.Module, dict[str, Tensor]]:
    """SmolLM2 with decoded int4 weights, or the floats of its file or of a folder; and a factor for
    each output channel by module name.
    """
    source = SOURCE if folder is None else ModelSource(str(folder))
    model = load_model(source, torch.float32).eval().requires_grad_(False)
    factors = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or "layers" not in name:
            continue
        if folder is None and not floats:
            store = Int4Weight.quantize(module.weight.data, GROUP, symmetric=False)
            store.read(slice(0, store.rows), [module.weight.data], None, "auto")
        factor = torch.ones(module.out_features, requires_grad=True)
        module.register_forward_hook(lambda _, __, out, factor=factor: out * factor)
        factors[name] = factor
    return model, factors


@dataclass
class Sums:
    """Sums over examples for one module, with m and r as above; signal and noise of some.

    Attributes:
        gradient: of ``r m``, ``[channels]``.
        margin: of ``m``, ``[channels]``.
        weighted: of ``r^2 m``, ``[channels]``.
        squares: of ``r^2 |m|^2``.
    """

    gradient: Tensor
    margin: Tensor
    weighted: Tensor
    squares: float = 0.0

    def add(self, residual: float, margin: Tensor) -> None:
        """Take in an example."""
        self.gradient += residual * margin
        self.margin += margin
        self.weighted += residual**2 * margin
        self.squares += residual**2 * float(margin.square().sum())

    def plain(self, examples: int) -> Tensor:
        """``|g|^2`` and ``tr F``."""
        return _unbiased(self.gradient / examples, self.squares / examples, examples)

    def own(self, residuals: Tensor) -> Tensor:
        """The same of what rows do not share."""
        examples, v = len(residuals), self.margin / len(residuals)
        noise = self.squares / examples - 2 * float(v @ self.weighted) / examples
        noise += float(residuals.square().mean() * (v @ v))
        return _unbiased(self.gradient / examples - residuals.mean() * v, noise, examples)


def _unbiased(mean: Tensor, trace: float, examples: int) -> Tensor:
    # |mean|^2 = |g|^2 + (tr F - |g|^2) / n, in expectation over independent examples.
    signal = (float(mean @ mean) - trace / examples) * examples / (examples - 1)
    return torch.tensor([signal, trace])


def measure(
    examples: int, folder: Path | None, floats: bool, sst2: Path | None
) -> tuple[dict[str, Sums], Tensor]:
    """Sums by module name, and the residual of each example."""
    model, factors = scaled_model(folder, floats)
    objective = OptionScoring()
    task, rows = "rotten_tomatoes", REVIEWS
    if sst2 is not None:
        task, rows = "sst2_review", FileRows(str(sst2), format="lines")
    data = PromptDataModule(task, rows, SOURCE, train_size=examples, batch_size=1)
    data.setup()
    sums = {name: Sums(*torch.zeros(3, one.numel())) for name, one in factors.items()}
    residuals = []
    for batch in data.train_dataloader():
        negative, positive = objective.scores(model, batch)[0]
        margin = positive - negative
        residuals.append(float(margin.detach().sigmoid()) - int(objective.targets(batch)[0]))
        gradients = torch.autograd.grad(margin, list(factors.values()))
        for name, gradient in zip(factors, gradients, strict=True):
            sums[name].add(residuals[-1], gradient)
    return sums, torch.tensor(residuals)


def place(name: str) -> tuple[int, str]:
    """Layer and projection of a module: 3 and ``q`` for ``model.layers.3.self_attn.q_proj``."""
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]), parts[-1].removesuffix("_proj")


def main() -> None:
    """Print a table of the sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--model", type=Path, help="a folder of floats")
    parser.add_argument("--floats", action="store_true", help="of the file, not int4")
    parser.add_argument("--sst2", type=Path, help="a file of SST-2, 'label text' a line")
    arguments = parser.parse_args()
    quiet_libraries()
    modules, residuals = measure(
        arguments.examples, arguments.model, arguments.floats, arguments.sst2
    )
    table = Table(title=f"output scales, {arguments.examples} reviews", box=None)
    table.add_column("set")
    for head in ("channels", *COLUMNS, *(f"{head}, not shared" for head in COLUMNS)):
        table.add_column(head, justify="right")
    for title, chosen in SETS.items():
        inside = [one for name, one in modules.items() if chosen(*place(name))]
        cells = [str(sum(one.gradient.numel() for one in inside))]
        for each in (
            [one.plain(len(residuals)) for one in inside],
            [one.own(residuals) for one in inside],
        ):
            g, f = torch.stack(each).sum(dim=0).tolist()
            gain = 1e3 * g * g / (2 * (g + f / BATCH) * f)
            cells += [f"{g:.4f}", f"{f:.2f}", f"{gain:.3f}"]
        table.add_row(title, *cells)
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
