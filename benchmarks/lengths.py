"""Memory that each further batch length leaves in the process, for `zolit/memory/batches.py`.

    python benchmarks/lengths.py --lengths 60

SmolLM2 in int4 takes one step on its output scales at each length, the longest first, so that no
later step needs larger activations. After each the C library is asked to give freed memory back.
Printed is the resident set over the lengths, and the slope of a line through it.
"""

import argparse

import waiting  # noqa: F401
import torch
from memory import PERTURBERS, trim
from smollm2 import SOURCE

from zolit.callbacks.peak_memory import resident_memory
from zolit.memory.batches import prompts
from zolit.quiet import quiet_libraries
from zolit.strategies import Int4
from zolit.training.zero_order import ZeroOrderModule


@torch.no_grad()
def main() -> None:
    """Step at each length and print what stays."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--lengths", type=int, default=60)
    parser.add_argument("--rows", type=int, default=16)
    arguments = parser.parse_args()
    quiet_libraries()
    perturber = PERTURBERS["scales"]
    module = ZeroOrderModule(SOURCE, Int4(64), perturber)
    module.configure_model()
    module.network.eval()
    resident = []
    for number, length in enumerate(range(20 + arguments.lengths, 20, -1)):
        rows = prompts(arguments.rows, length)
        module.estimate(rows, [number])
        trim()
        resident.append(resident_memory() / 1e6)
        if number % 10 == 0:
            print(f"{number + 1} lengths: {resident[-1]:.0f} MB", flush=True)
    # The first steps compile and fill the workspace.
    values = torch.tensor(resident[5:], dtype=torch.float64)
    places = torch.arange(len(values), dtype=torch.float64)
    places -= places.mean()
    print(f"{(places @ values / places.square().sum()).item():.2f} MB a length")


if __name__ == "__main__":
    main()
