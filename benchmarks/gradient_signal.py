"""How much a zeroth-order step can gain: gradient signal and noise in each coordinate system.

    python benchmarks/gradient_signal.py --examples 100

Uses backpropagation, as `scale_signal.py` does. For the linear layers of SmolLM2-135M on training
rows of Rotten Tomatoes it estimates, in weight, int8, int4 and float8 code units,

- ``|g|^2``, the squared norm of the mean gradient (without bias from its own noise);
- ``|g_b|^2``, the expected squared norm of the gradient of a batch of 16, which is also the
  expected square of a projected gradient;
- ``tr F``, the trace of the Fisher matrix, which stands in for the Hessian's.

A step of learning rate lr gains ``lr |g|^2 - lr^2 |g_b|^2 tr H / 2`` on average (MeZO,
arXiv 2305.17333, Section 4), best at ``lr* = |g|^2 / (|g_b|^2 tr H)``.
"""

import argparse

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from smollm2 import REVIEWS, SOURCE
from torch import Tensor, nn

from zolit.datamodules import PromptDataModule
from zolit.formats.float8 import Float8Weight
from zolit.formats.int4 import Int4Weight
from zolit.formats.int8 import Int8Weight
from zolit.models.loading.load import load_model
from zolit.models.plan import find_parameters
from zolit.objectives.option_scoring import OptionScoring
from zolit.quiet import quiet_libraries

BATCH = 16
GROUP = 64


def units(weights: list[nn.Parameter]) -> dict[str, list[Tensor]]:
    """Length of the coordinate's unit in weights, broadcast against each weight."""
    return {
        "weight": [torch.ones(1) for _ in weights],
        "int8": [Int8Weight.quantize(w, None).scale for w in weights],
        "int4": [
            Int4Weight.quantize(w, GROUP, symmetric=False).scale.repeat_interleave(GROUP, 1)
            for w in weights
        ],
        "float8": [Float8Weight.quantize(w).scale for w in weights],
    }


def measure(examples: int) -> dict[str, tuple[float, float, float]]:
    """``(|g|^2, |g_b|^2, tr F)`` of each coordinate system."""
    model, objective = load_model(SOURCE, torch.bfloat16), OptionScoring()
    weights = [f.parameter for f in find_parameters(model) if f.kind == "linear"]
    lengths = units(weights)
    for weight in weights:
        weight.requires_grad_(True)
    data = PromptDataModule("rotten_tomatoes", REVIEWS, SOURCE, batch_size=1, train_size=examples)
    data.setup("fit")
    mean = [torch.zeros_like(w, dtype=torch.float32) for w in weights]
    trace = dict.fromkeys(lengths, 0.0)
    for batch in data.train_dataloader():
        gradients = torch.autograd.grad(objective.losses(model, batch)[0], weights)
        for name, length in lengths.items():
            trace[name] += _squares(gradients, length) / examples
        for total, gradient in zip(mean, gradients, strict=True):
            total.add_(gradient.float(), alpha=1.0 / examples)
    found = {}
    for name, length in lengths.items():
        biased, fisher = _squares(mean, length), trace[name]
        signal = (biased - fisher / examples) / (1.0 - 1.0 / examples)
        found[name] = (signal, signal + (fisher - signal) / BATCH, fisher)
    return found


def _squares(gradients: "list[Tensor] | tuple[Tensor, ...]", lengths: list[Tensor]) -> float:
    pairs = zip(gradients, lengths, strict=True)
    return sum(float((g.float() * u).square().sum()) for g, u in pairs)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", type=int, default=100)
    arguments = parser.parse_args()
    quiet_libraries()
    table = Table(title=f"{arguments.examples} examples", box=None)
    for column in ("unit", "|g|^2", "|g_b|^2", "tr F", "lr*", "gain a step at lr*"):
        table.add_column(column)
    for name, (signal, batch, fisher) in measure(arguments.examples).items():
        best = signal / (batch * fisher)
        figures = (signal, batch, fisher, best, best * signal / 2)
        table.add_row(name, *(f"{figure:.2e}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
