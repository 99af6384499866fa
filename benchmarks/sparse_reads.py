"""Milliseconds of products with a weight of which a few entries differ for each half of a pair.

    OMP_NUM_THREADS=2 python benchmarks/sparse_reads.py --tokens 1536 --fraction 0.001

Int4 weights in the layer shapes of SmolLM2-135M, Gaussian directions on a random choice of their
entries, bfloat16 activations. Ways to one perturbed product:

- ``scattered``: rows decoded into two buffers, the entries of each overwritten, one batched
  product (what zolit does, `zolit.formats.sparse_overlay`);
- ``in turn``: rows decoded once; entries overwritten with plus, a product of the first half, then
  overwritten with minus, a product of the second;
- ``compressed rows``: one product of the whole batch with the weight at rest, then a sparse product
  for each half by ``torch.sparse`` (float32), added to the outputs;
- ``at rest``: decoding and one product alone, which none of them can be faster than.

Medians of 30 calls.
"""

import argparse

import waiting  # noqa: F401
import torch
from rich.console import Console
from rich.table import Table
from timing import median_seconds
from torch import Tensor

from zolit.formats.int4 import Int4Weight
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.kernels.arguments import Perturbation
from zolit.kernels.entries import put_entries
from zolit.noise import Direction, control_table, coordinates_at
from zolit.tensors.workspace import Workspace

SHAPES = ((192, 576), (576, 576), (1536, 576), (576, 1536))
EPS, CALLS = 1e-3, 30


def overlay(rows: int, columns: int, fraction: float) -> SparseOverlay:
    """An int4 weight with a random choice of floats beside it."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(rows, columns, generator=generator)
    chosen = torch.rand(rows * columns, generator=generator) < fraction
    entries = chosen.nonzero().flatten()
    dense = Int4Weight.quantize(weight, 64, symmetric=False)
    return SparseOverlay.of(dense, entries, weight.flatten()[entries])


def noise() -> Perturbation:
    """A direction of one weight."""
    return Perturbation(Direction("gaussian"), control_table(7, [0])[0], torch.tensor([0.0, EPS]))


def scattered(store: SparseOverlay, x: Tensor, along: Perturbation, space: Workspace) -> Tensor:
    """``[2, M, rows]``: both versions at once."""
    buffers = space.buffers(2, store.rows, store.columns, x.dtype, x.device)
    store.read(slice(0, store.rows), buffers.parts, along, "auto")
    return torch.bmm(x, buffers.whole.transpose(1, 2))


def in_turn(store: SparseOverlay, x: Tensor, along: Perturbation, space: Workspace) -> Tensor:
    """``[2, M, rows]``: one buffer for both versions."""
    buffer = space.buffers(1, store.rows, store.columns, x.dtype, x.device).parts[0]
    store.inner.read(slice(0, store.rows), [buffer], None, "auto")
    entries = store.entries(slice(0, store.rows))
    out = x.new_empty(2, x.shape[1], store.rows)
    for half, amplitude in enumerate((along.amplitude, -along.amplitude)):
        one = along._replace(amplitude=amplitude)
        put_entries([buffer.view(-1)], *entries, one, preference="auto")
        torch.mm(x[half], buffer.t(), out=out[half])
    return out


def compressed_rows(
    store: SparseOverlay, x: Tensor, along: Perturbation, space: Workspace
) -> Tensor:
    """``[2, M, rows]``: one product at rest, and what the direction adds to it."""
    out = at_rest(store, x, along, space)
    places, _, numbers = store.entries(slice(0, store.rows))
    z = EPS * coordinates_at(along.direction, along.control, numbers)
    counts = torch.bincount(places.long() // store.columns, minlength=store.rows)
    starts = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    shape = (store.rows, store.columns)
    move = torch.sparse_csr_tensor(
        starts, places.long() % store.columns, z, shape, check_invariants=False
    )
    for half, sign in enumerate((1.0, -1.0)):
        out[half] += sign * (move @ x[half].float().t()).t()
    return out


def at_rest(store: SparseOverlay, x: Tensor, along: Perturbation, space: Workspace) -> Tensor:
    """``[2, M, rows]`` with the weight as it is stored."""
    buffer = space.buffers(1, store.rows, store.columns, x.dtype, x.device).parts[0]
    store.read(slice(0, store.rows), [buffer], None, "auto")
    return torch.mm(x.flatten(0, 1), buffer.t()).view(2, -1, store.rows)


WAYS = (scattered, in_turn, compressed_rows, at_rest)


def measure(rows: int, columns: int, tokens: int, fraction: float) -> list[float]:
    """Milliseconds of each of `WAYS`, for a layer of a shape."""
    store, along, space = overlay(rows, columns, fraction), noise(), Workspace()
    x = torch.randn(2, tokens // 2, columns, dtype=torch.bfloat16)
    return [
        1e3 * median_seconds(lambda way=way: way(store, x, along, space), CALLS, warm_up=5)
        for way in WAYS
    ]


@torch.no_grad()
def main() -> None:
    """Measure each shape and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=1536, help="of both halves")
    parser.add_argument("--fraction", type=float, default=1e-3)
    arguments = parser.parse_args()
    table = Table("rows x columns", *(way.__name__.replace("_", " ") for way in WAYS), box=None)
    for rows, columns in SHAPES:
        found = measure(rows, columns, arguments.tokens, arguments.fraction)
        table.add_row(f"{rows} x {columns}", *(f"{one:.2f}" for one in found))
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
