"""Milliseconds of matrix products as torch makes them: whole, rows cut in parts, and in integers.

    OMP_NUM_THREADS=2 python benchmarks/products.py

``x @ W.T`` in bfloat16 for the layer shapes of SmolLM2-135M. ``cut`` multiplies parts of at most
512 rows one after another; ``int8`` is ``torch._int_mm`` with an int32 result, not scaled yet;
``tiles`` is zolit's own, scaled to bfloat16 (`zolit.kernels.cpu.amx`; a dash where the CPU has
no AMX). Medians of 40 calls.
"""

import argparse
from collections.abc import Callable

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from timing import median_seconds
from torch import Tensor

from zolit.kernels.cpu.amx import fits_tiles, tile_product

SHAPES = ((192, 576), (576, 576), (1536, 576), (576, 1536))
ROWS = (500, 768, 1000, 1536)
PART, CALLS = 512, 40


def milliseconds(call: Callable[[], object]) -> float:
    """Median time of a call."""
    return 1e3 * median_seconds(call, CALLS, warm_up=5)


def measure(rows: int, outputs: int, inputs: int) -> tuple[float, ...]:
    """Whole, cut and integer product, and the one on tiles where there are some."""
    x = torch.randn(rows, inputs, dtype=torch.bfloat16)
    weight = torch.randn(outputs, inputs, dtype=torch.bfloat16)
    out = torch.empty(rows, outputs, dtype=torch.bfloat16)
    codes, weight_codes = (torch.randint(-127, 127, t.shape, dtype=torch.int8) for t in (x, weight))

    def cut() -> None:
        length = -(-rows // -(-rows // PART))
        for part, target in zip(x.split(length), out.split(length), strict=True):
            torch.mm(part, weight.t(), out=target)

    def whole() -> Tensor:
        return torch.mm(x, weight.t(), out=out)

    scales = torch.ones(rows, 1), torch.ones(outputs)

    def tiles() -> None:
        tile_product(codes, scales[0], weight_codes, scales[1], out)

    return (
        milliseconds(whole),
        milliseconds(cut),
        milliseconds(lambda: torch._int_mm(codes, weight_codes.t())),
        *([milliseconds(tiles)] if fits_tiles(codes, weight_codes, out, "auto") else []),
    )


def main() -> None:
    """Print a table of all shapes."""
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    table = Table(title=f"ms a product, {torch.get_num_threads()} threads", box=None)
    for head in ("outputs x inputs", "rows", "whole", "cut", "int8", "tiles"):
        table.add_column(head, justify="right")
    for outputs, inputs in SHAPES:
        for rows in ROWS:
            cells = [f"{one:.2f}" for one in measure(rows, outputs, inputs)]
            cells += ["-"] * (4 - len(cells))
            table.add_row(f"{outputs} x {inputs}", str(rows), *cells)
    Console().print(table)


if __name__ == "__main__":
    main()
