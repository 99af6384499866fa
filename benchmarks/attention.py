"""Attention over short sequences: torch's fused kernel beside two batched products.

    OMP_NUM_THREADS=2 python benchmarks/attention.py

Shapes of SmolLM2-135M (9 heads, 3 groups of keys and values, width 64) in bfloat16, causal with a
mask as padded prompts have it, both compiled as inside `compile: blocks`. Milliseconds are medians;
errors are of the output against float64, as a fraction of its length.
"""

import argparse
from functools import partial
from types import SimpleNamespace

import torch
from rich.console import Console
from rich.table import Table
from timing import median_seconds

from zolit.compat import sdpa_attention_forward
from zolit.models.attention import LONGEST, attention

HEADS, GROUPS, WIDTH = 9, 3, 64
LAYER = SimpleNamespace(num_key_value_groups=HEADS // GROUPS, is_causal=True)


KINDS = [
    torch.compile(lambda *parts, kind=kind: kind(LAYER, *parts)[0], dynamic=True)
    for kind in (sdpa_attention_forward, attention)
]


def measure(rows: int, length: int, calls: int) -> tuple[list[float], list[float]]:
    """Milliseconds and errors of both kinds."""
    generator = torch.Generator().manual_seed(length)
    parts = [
        torch.randn(rows, length, n, WIDTH, generator=generator).bfloat16().transpose(1, 2)
        for n in (HEADS, GROUPS, GROUPS)
    ]
    mask = torch.ones(length, length, dtype=torch.bool).tril().repeat(rows, 1, 1, 1)
    exact = sdpa_attention_forward(LAYER, *(one.double() for one in parts), mask)[0]
    outputs = [kind(*parts, mask).double() for kind in KINDS]
    times = [1e3 * median_seconds(partial(kind, *parts, mask), calls, 5) for kind in KINDS]
    return times, [float((out - exact).norm() / exact.norm()) for out in outputs]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--lengths", nargs="+", type=int, default=[8, 16, 24, 32, 48, LONGEST])
    parser.add_argument("--calls", type=int, default=30)
    arguments = parser.parse_args()
    if max(arguments.lengths) > LONGEST:
        parser.error(f"--lengths: beyond {LONGEST} tokens both are the same")
    table = Table("tokens", "fused, ms", "two products, ms", "ratio", "fused, error", "products")
    for length in arguments.lengths:
        (fused, products), errors = measure(arguments.rows, length, arguments.calls)
        times = (f"{fused:.2f}", f"{products:.2f}", f"{products / fused:.2f}")
        table.add_row(str(length), *times, *(f"{error:.4f}" for error in errors))
    Console().print(table)


if __name__ == "__main__":
    main()
