"""Nanoseconds per coordinate of each kernel, compiled.

    OMP_NUM_THREADS=1 python benchmarks/kernels.py
    OMP_NUM_THREADS=1 python benchmarks/kernels.py --only int4 --kernels read masked --calls 101

One weight, by default of SmolLM2-135M's MLP (1536 x 576), paired bfloat16 reads. ``--only`` takes
formats and directions whose names begin so, and ``--kernels`` some of: ``read``, the paired read;
``masked``, the same under a mask of single coordinates (a bit each); ``update``. Kernels are called
in turn, so that other load meets all of them; medians. ``mask costs`` is the median, over calls, of
how much longer a masked read took than the plain one before it. Each kernel is compiled first,
five to ten seconds, or found in the folder that TORCHINDUCTOR_CACHE_DIR names.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import waiting  # noqa: F401
import torch

from zolit.coordinates import Elements, Site
from zolit.noise import Direction
from zolit.strategies import Float8, Int4, Int8, NoQuantizer, Quantizer
from zolit.supports import Bits
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight

KERNELS = ("read", "masked", "update")

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


@torch.no_grad()
def calls_of(
    quantizer: Quantizer, dtype: torch.dtype, direction: Direction, rows: int, columns: int
) -> dict[str, Callable[[], object]]:
    """A call of each kernel, by name, on one weight."""
    reading = Reading(direction, "compiled")
    values = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0)).to(dtype)
    store = quantizer.store(values, "weight")
    unit = (1.0, 0.0) if quantizer.quantized else (0.0, 1.0)
    site = Site(0, Elements(unit))
    weight = PerturbedWeight(store, site, reading, "weight", values.shape, torch.bfloat16)
    outs = reading.workspace.buffers(2, rows, columns, torch.bfloat16, store.device).parts
    with reading.perturbed(1, 1e-3, 2):
        noise = reading.perturbation(site, unit, store.device)
    chosen = torch.rand(rows, columns, generator=torch.Generator().manual_seed(1)) < 1e-3
    masked = noise._replace(bits=Bits.of(chosen).bits())
    return {
        "read": partial(store.read, slice(0, rows), outs, noise, "compiled"),
        "masked": partial(store.read, slice(0, rows), outs, masked, "compiled"),
        "update": partial(move, [weight], [1], [1e-6], 2, [None]),
    }


def seconds(calls: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Seconds of each call, made in turn, after two of each that are not counted."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(count + 2):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= 2:
                found[name].append(time.perf_counter() - start)
    return found


def main() -> None:
    """Print a line for each format and direction that was asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="*", default=[""], help="beginnings of names")
    parser.add_argument("--kernels", nargs="*", choices=KERNELS, default=list(KERNELS))
    parser.add_argument("--rows", type=int, default=1536)
    parser.add_argument("--columns", type=int, default=576)
    parser.add_argument("--calls", type=int, default=15)
    given = parser.parse_args()
    chosen = tuple(given.only)
    pairs = [(name, label) for name in FORMATS for label in DIRECTIONS]
    # A format, or a direction, or both, as "int4, groups of 64, rademacher".
    pairs = [
        pair for pair in pairs if any(one.startswith(chosen) for one in (*pair, ", ".join(pair)))
    ]
    if not pairs:
        parser.error(f"--only: {' '.join(given.only)} begins no format or direction")
    print(f"ns per coordinate of {given.rows} x {given.columns}, {torch.get_num_threads()} threads")
    for name, label in pairs:
        calls = calls_of(*FORMATS[name], DIRECTIONS[label], given.rows, given.columns)
        found = seconds({one: calls[one] for one in given.kernels}, given.calls)
        size = given.rows * given.columns
        told = [f"{one} {1e9 * statistics.median(found[one]) / size:.3f}" for one in found]
        if {"read", "masked"} <= found.keys():
            pairs_of_calls = zip(found["read"], found["masked"], strict=True)
            more = statistics.median(two / one - 1 for one, two in pairs_of_calls)
            told.append(f"mask costs {100 * more:+.1f} %")
        print(f"{name}, {label}: {', '.join(told)}", flush=True)


if __name__ == "__main__":
    main()
