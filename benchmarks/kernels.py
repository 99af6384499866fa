"""Nanoseconds per coordinate of each kernel, compiled.

    OMP_NUM_THREADS=1 python benchmarks/kernels.py

One weight of SmolLM2-135M's MLP (1536 x 576), paired bfloat16 reads, medians of 15 calls.
"""

import argparse
from collections.abc import Callable
from functools import partial

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from timing import median_seconds

from zolit.coordinates import Elements, Site
from zolit.noise import Direction
from zolit.strategies import Float8, Int4, Int8, NoQuantizer, Quantizer
from zolit.supports import Bits
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight

ROWS, COLUMNS, CALLS = 1536, 576, 15

FORMATS: dict[str, tuple[Quantizer, torch.dtype]] = {
    "bfloat16": (NoQuantizer(), torch.bfloat16),
    "int8": (Int8(), torch.float32),
    "int4, groups of 64": (Int4(64), torch.float32),
    "float8": (Float8(), torch.float32),
}
DIRECTIONS = {
    "rademacher": Direction("rademacher"),
    "gaussian": Direction("gaussian"),
    "gaussian, 4 bits": Direction("gaussian", bits=4),
}


def nanoseconds(call: Callable[[], object]) -> float:
    """Median time of a call per coordinate of the weight."""
    return 1e9 * median_seconds(call, CALLS, warm_up=2) / (ROWS * COLUMNS)


def measure(quantizer: Quantizer, dtype: torch.dtype, direction: Direction) -> list[float]:
    """Paired read of one weight, the same under a mask, and update; nanoseconds per coordinate."""
    reading = Reading(direction, "compiled")
    values = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0)).to(dtype)
    store = quantizer.store(values, "weight")
    unit = (1.0, 0.0) if quantizer.quantized else (0.0, 1.0)
    site = Site(0, Elements(unit))
    weight = PerturbedWeight(store, site, reading, "weight", values.shape, torch.bfloat16)
    outs = reading.workspace.buffers(2, ROWS, COLUMNS, torch.bfloat16, store.device).parts
    with reading.perturbed(1, 1e-3, 2):
        noise = reading.perturbation(site, unit, store.device)
        chosen = torch.rand(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1)) < 1e-3
        masked = noise._replace(bits=Bits.of(chosen).bits())
        reads = [
            nanoseconds(partial(store.read, slice(0, ROWS), outs, along, "compiled"))
            for along in (noise, masked)
        ]
    return [*reads, nanoseconds(lambda: move([weight], [1], [1e-6], 2, [None]))]


def main() -> None:
    """Print a table of all formats and directions."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    table = Table(title=f"ns per coordinate, {torch.get_num_threads()} threads", box=None)
    for column in ("format", "direction", "paired read", "under a mask", "update"):
        table.add_column(column)
    for name, (quantizer, dtype) in FORMATS.items():
        for label, direction in DIRECTIONS.items():
            times = measure(quantizer, dtype, direction)
            table.add_row(name, label, *(f"{time:.3f}" for time in times))
    Console().print(table)


if __name__ == "__main__":
    main()
