"""Gradients through products with stored weights, beside float64 autograd of the decoded weight."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.formats.base import StoredWeight
from zolit.formats.permuted import PermutedWeight
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.memory.tracker import LiveBytes
from zolit.strategies import Float8, Int4, Int8
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight

sys.path.insert(0, str(Path(__file__).parents[1] / "formats"))
from format_cases import CASES, CHUNK, FORMATS

Make = Callable[[Tensor], StoredWeight]


def stored(store: StoredWeight, chunk_bytes: int = 16 << 20) -> PerturbedWeight:
    reading = Reading(None, "reference", chunk_bytes=chunk_bytes)
    shape = torch.Size((store.rows, store.columns))
    return PerturbedWeight(store, None, reading, "w", shape, torch.float32)


def factors(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """An input ``[2, 3, columns]`` that wants a gradient, and a gradient of the product."""
    generator = torch.Generator().manual_seed(rows * columns)
    x = torch.randn(2, 3, columns, generator=generator).to(dtype)
    return x.requires_grad_(), torch.randn(2, 3, rows, generator=generator).to(dtype)


def compare(store: StoredWeight, dtype: torch.dtype, chunk_bytes: int, rtol: float) -> None:
    x, gradient = factors(store.rows, store.columns, dtype)
    weight = stored(store, chunk_bytes)
    out = F.linear(x, weight)
    with torch.no_grad():
        assert torch.equal(out, F.linear(x, weight)), "the forward is that without a gradient"
    out.backward(gradient)
    wanted = gradient.double() @ store.decoded(slice(0, store.rows)).double()
    assert x.grad is not None
    assert x.grad.dtype == dtype
    size = float(wanted.abs().max())
    torch.testing.assert_close(x.grad.double(), wanted, rtol=0, atol=rtol * size)


@pytest.mark.parametrize(("form", "shape"), CASES)
def test_every_format(form: str, shape: tuple[int, int]) -> None:
    store = FORMATS[form](*shape).store
    floats, whole = store.floats(), 16 << 20
    if floats is None or floats.dtype == torch.float32:
        compare(store, torch.float32, whole, 2e-6)
        # Two buffers of so many rows: the largest weight takes three chunks.
        compare(store, torch.float32, 2 * CHUNK * store.padded_columns * 4, 2e-6)
    if floats is None or floats.dtype == torch.bfloat16:
        # Decoded weights are rounded to bfloat16 as in the forward pass.
        compare(store, torch.bfloat16, whole, 2e-2)


def test_columns_that_are_stored_in_another_order() -> None:
    inner = FORMATS["int4_group"](6, 64).store
    order = torch.randperm(64, generator=torch.Generator().manual_seed(3))
    compare(PermutedWeight(inner, order), torch.float32, 16 << 20, 2e-6)


def test_floats_beside_the_codes() -> None:
    places = torch.tensor([0, 5, 64, 200])
    inner = FORMATS["int8_row"](6, 64).store
    overlay = SparseOverlay.of(inner, places, torch.tensor([3.0, -0.5, 1.0, 9.0]))
    compare(overlay, torch.float32, 16 << 20, 2e-6)


@pytest.mark.parametrize("quantizer", [Int8(activations="int8"), Float8(activations="float8")])
def test_rounded_activations_pass_the_gradient_through(quantizer: Int8 | Float8) -> None:
    value = torch.randn(6, 64, generator=torch.Generator().manual_seed(1))
    compare(quantizer.store(value, "w"), torch.float32, 16 << 20, 2e-6)


def test_conv1d_of_gpt2() -> None:
    """``addmm`` with a weight that the module holds as ``[columns, rows]``."""
    value = torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    store = Int8().store(value.t().contiguous(), "w")
    reading = Reading(None, "reference")
    weight = PerturbedWeight(store, None, reading, "w", value.shape, value.dtype, transposed=True)
    x, gradient = (one.flatten(0, 1) for one in factors(6, 64))
    x.retain_grad()
    torch.addmm(torch.ones(6), x, weight).backward(gradient)
    wanted = gradient.double() @ store.decoded(slice(0, 6)).double()
    torch.testing.assert_close(x.grad.double(), wanted, rtol=1e-5, atol=1e-5)  # type: ignore[union-attr]


def test_nothing_of_the_size_of_the_matrix_is_kept() -> None:
    """Neither in the graph, nor beside the buffers that all weights share."""
    rows, columns = 512, 256
    generator = torch.Generator().manual_seed(1)
    store = Int4(64).store(torch.randn(rows, columns, generator=generator), "w")
    weight = stored(store, chunk_bytes=1 << 16)
    kept: list[Tensor] = []
    x = torch.randn(4, columns, generator=generator).requires_grad_()
    plain = torch.randn(2, rows, generator=generator)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        F.linear(F.linear(x, weight), plain).sum().backward()
    assert max((one.numel() for one in kept), default=0) <= 2 * rows
    with LiveBytes() as made:
        F.linear(x, weight).sum().backward()
    activations = 4 * 4 * (rows + columns) * 4
    assert made.peak < rows * columns, "a byte for each weight would be a quarter of its floats"
    assert made.peak < activations + (1 << 16)
