"""Which layers' output scales are worth moving: signal and noise of their gradient.

    python benchmarks/scale_signal.py --examples 400
    python benchmarks/scale_signal.py --model FOLDER --sst2 ../shared/data/sst2/stsa.binary.train

Uses backpropagation, as `gradient_signal.py` does, on SmolLM2-135M with int4 weights and training
rows of Rotten Tomatoes; or on the floats of a folder, such as one that `zolit export` has written,
and rows of SST-2. The coordinate is the factor of an output channel. For sets of layers and
projections it estimates

- ``|g|^2``, the squared norm of the mean gradient, without bias from its own noise;
- ``tr F``, the trace of the Fisher matrix: noise of the gradient, and stand-in for curvature;
- the gain of the best step, ``|g|^4 / (2 |g_b|^2 tr F)`` with ``|g_b|^2 = |g|^2 + tr F / 16`` for
  batches of 16, which is what a set is judged by (MeZO, arXiv 2305.17333, Section 4).
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from smollm2 import REVIEWS, SOURCE
from torch import Tensor, nn

from zolit.compat import quiet_libraries
from zolit.datamodules import FileRows, PromptDataModule
from zolit.models.load import load_model
from zolit.models.source import ModelSource
from zolit.objectives.option_scoring import OptionScoring
from zolit.tensors.int4 import Int4Weight

BATCH, GROUP = 16, 64
MLP = ("gate", "up", "down")
SETS: dict[str, Callable[[int, str], bool]] = {
    "all layers": lambda layer, name: True,
    "layers 0-9": lambda layer, name: layer < 10,
    "layers 10-24": lambda layer, name: 10 <= layer < 25,
    "layers 25-29": lambda layer, name: layer >= 25,
    "layers 10-24, attention": lambda layer, name: 10 <= layer < 25 and name not in MLP,
    "layers 10-24, MLP": lambda layer, name: 10 <= layer < 25 and name in MLP,
    "layers 13-25, query and key": lambda layer, name: 13 <= layer < 26 and name in ("q", "k"),
}


def scaled_model(folder: Path | None) -> tuple[nn.Module, dict[str, Tensor]]:
    """SmolLM2 with decoded int4 weights, or the floats of a folder; and a factor for each output
    channel by module name.
    """
    source = SOURCE if folder is None else ModelSource(str(folder))
    model = load_model(source, torch.float32).eval().requires_grad_(False)
    factors = {}
    for name, module in model.named_modules():
        if not isinstance(module, nn.Linear) or "layers" not in name:
            continue
        if folder is None:
            store = Int4Weight.quantize(module.weight.data, GROUP, symmetric=False)
            store.read(slice(0, store.rows), [module.weight.data], None, "auto")
        factor = torch.ones(module.out_features, requires_grad=True)
        module.register_forward_hook(lambda _, __, out, factor=factor: out * factor)
        factors[name] = factor
    return model, factors


def measure(
    examples: int, folder: Path | None, sst2: Path | None
) -> dict[str, tuple[float, float, int]]:
    """``|g|^2``, ``tr F`` and the number of channels by module name."""
    model, factors = scaled_model(folder)
    objective = OptionScoring()
    task, rows = "rotten_tomatoes", REVIEWS
    if sst2 is not None:
        task, rows = "sst2_review", FileRows(str(sst2), format="lines")
    data = PromptDataModule(task, rows, SOURCE, train_size=examples, batch_size=1)
    data.setup()
    total = {name: torch.zeros_like(factor) for name, factor in factors.items()}
    squares = dict.fromkeys(factors, 0.0)
    for batch in data.train_dataloader():
        loss = objective.losses(model, batch)[0]
        gradients = torch.autograd.grad(loss, list(factors.values()))
        for name, gradient in zip(factors, gradients, strict=True):
            total[name] += gradient
            squares[name] += float(gradient.square().sum())
    # |sum|^2 = n |g|^2 (n - 1) + sum of squares, in expectation over independent examples.
    pairs = examples * (examples - 1)
    return {
        name: (
            (float(one.square().sum()) - squares[name]) / pairs,
            squares[name] / examples,
            one.numel(),
        )
        for name, one in total.items()
    }


def place(name: str) -> tuple[int, str]:
    """Layer and projection of a module: 3 and ``q`` for ``model.layers.3.self_attn.q_proj``."""
    parts = name.split(".")
    return int(parts[parts.index("layers") + 1]), parts[-1].removesuffix("_proj")


def main() -> None:
    """Print a table of the sets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", type=int, default=400)
    parser.add_argument("--model", type=Path, help="a folder of floats")
    parser.add_argument("--sst2", type=Path, help="a file of SST-2, 'label text' a line")
    arguments = parser.parse_args()
    quiet_libraries()
    modules = measure(arguments.examples, arguments.model, arguments.sst2)
    table = Table(title=f"output scales, {arguments.examples} reviews", box=None)
    for head in ("set", "channels", "|g|^2", "tr F", "gain of the best step, 1e-3"):
        table.add_column(head, justify="left" if head == "set" else "right")
    for title, chosen in SETS.items():
        inside = [found for name, found in modules.items() if chosen(*place(name))]
        g, f, channels = (sum(values) for values in zip(*inside, strict=True))
        gain = 1e3 * g * g / (2 * (g + f / BATCH) * f)
        table.add_row(title, f"{channels}", f"{g:.4f}", f"{f:.2f}", f"{gain:.3f}")
    Console().print(table)


if __name__ == "__main__":
    main()
