"""Seconds of the first step, with a cold and with a warm compiler cache.

    OMP_NUM_THREADS=2 python benchmarks/first_step.py

SmolLM2-135M, 16 prompts of 48 tokens, `compile: blocks`; each figure is a process of its own. The
cold one has an empty cache folder, the warm one the folder that the cold one filled.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from step import RECIPES, load, make_batch, recipe

from zolit.quiet import quiet_libraries

NAMES = ("MeZO dense, rademacher", "QuZO int8", "QuZO int4", "QuZO W8A8", "scales of int4")


@torch.no_grad()
def seconds(name: str) -> float:
    """Time of the first step of a recipe in this process."""
    quiet_libraries()
    entry = recipe(name, load("smollm2"), make_batch(16, 48), 1, {"compile": "blocks"})
    start = time.perf_counter()
    entry.step()
    return time.perf_counter() - start


def in_a_process(name: str, cache: str) -> float:
    """The same in a new process with a cache folder."""
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
    command = [sys.executable, __file__, "--one", name]
    done = subprocess.run(  # noqa: S603
        command, check=True, capture_output=True, text=True, env=environment, timeout=600
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure the recipes asked for and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(RECIPES), default=list(NAMES))
    parser.add_argument("--one", choices=list(RECIPES), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(seconds(arguments.one))
        return
    table = Table(box=None)
    for head in ("first step, s", "cold", "warm"):
        table.add_column(head, justify="right" if head != "first step, s" else "left")
    for name in arguments.only:
        with tempfile.TemporaryDirectory() as cache:
            found = [in_a_process(name, cache) for _ in range(2)]
        table.add_row(name, *(f"{one:.1f}" for one in found))
    Console().print(table)


if __name__ == "__main__":
    main()
