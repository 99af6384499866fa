"""Formats against torchao's: its codes read here, and what is exported read by it."""

import pytest
import torch

from zolit.compat import Float8Tensor, Int8Tensor, PerGroup, PerRow
from zolit.export.torchao import torchao_tensor
from zolit.formats.base import StoredWeight
from zolit.formats.float8 import Float8Weight
from zolit.formats.int4 import Int4Weight, pack_codes
from zolit.formats.int8 import Int8Weight


def weight(rows: int = 6, columns: int = 128) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))


def decoded(store: StoredWeight) -> torch.Tensor:
    out = torch.empty(store.rows, store.padded_columns)
    store.read(slice(0, store.rows), [out], None, "reference")
    return out[:, : store.columns]


@pytest.mark.parametrize("group_size", [None, 32, 64])
def test_int8_reads_as_torchao_does(group_size: int | None) -> None:
    granularity = PerRow() if group_size is None else PerGroup(group_size)
    theirs = Int8Tensor.from_hp(weight(), granularity)
    store = Int8Weight(theirs.qdata, theirs.scale.float().view(6, -1))
    torch.testing.assert_close(decoded(store), theirs.dequantize(torch.float32))


def test_float8_reads_as_torchao_does() -> None:
    theirs = Float8Tensor.from_hp(weight(), granularity=PerRow())
    store = Float8Weight(theirs.qdata, theirs.scale.float().view(-1, 1))
    torch.testing.assert_close(decoded(store), theirs.dequantize(torch.float32))


@pytest.mark.parametrize(
    "store",
    [
        Int8Weight.quantize(weight(), None),
        Int8Weight.quantize(weight(), 32),
        Float8Weight.quantize(weight()),
        Int4Weight.quantize(weight(), 32, True),
        Int4Weight.quantize(weight(), 64, False),
        Int4Weight.quantize(weight(), 128, False),
    ],
)
def test_torchao_reads_what_is_exported(store: StoredWeight) -> None:
    theirs = torchao_tensor(store, torch.float32)
    torch.testing.assert_close(theirs.dequantize(), decoded(store), rtol=1e-5, atol=1e-6)
    if isinstance(store, Int8Weight | Float8Weight):
        assert theirs.qdata.data_ptr() == store.codes.data_ptr()


def test_int4_packs_and_unpacks() -> None:
    codes = torch.randint(-8, 8, (3, 64), generator=torch.Generator().manual_seed(1)).to(torch.int8)
    store = Int4Weight(pack_codes(codes), torch.ones(3, 1))
    assert torch.equal(store.codes(), codes)
    assert torch.equal(decoded(store), codes.float())


@pytest.mark.parametrize(
    ("store", "step"),
    [
        (Int8Weight.quantize(weight(), None), 1 / 127),
        (Int8Weight.quantize(weight(), 32), 1 / 127),
        (Int4Weight.quantize(weight(), 32, True), 1 / 7),
    ],
)
def test_symmetric_codes_are_rounded_to_nearest(store: StoredWeight, step: float) -> None:
    groups = weight().view(6, store.groups, -1)
    largest = groups.abs().amax(2, keepdim=True)
    error = (decoded(store).view_as(groups) - groups).abs()
    assert (error <= 0.5001 * step * largest).all()
    assert (error > 0.4 * step * largest).any()


def test_asymmetric_int4_spans_minimum_to_maximum() -> None:
    groups = (weight() + 5.0).view(6, 2, 64)
    values = decoded(Int4Weight.quantize(weight() + 5.0, 64, False)).view_as(groups)
    span = groups.amax(2, keepdim=True) - groups.amin(2, keepdim=True)
    assert ((values - groups).abs() <= 0.501 * span / 15).all()


def test_float8_rounds_to_nearest() -> None:
    values = decoded(Float8Weight.quantize(weight()))
    largest = weight().abs().amax(1, keepdim=True)
    error = (values - weight()).abs()
    assert (error <= weight().abs() * 2.0**-4 + largest / 448 * 2.0**-10).all()


@pytest.mark.parametrize("rows", [0.0, 1e-30])
def test_rows_of_nothing_stay_finite(rows: float) -> None:
    flat = torch.full((2, 64), rows)
    for store in (
        Int8Weight.quantize(flat, None),
        Int4Weight.quantize(flat, 32, False),
        Int4Weight.quantize(flat, 32, True),
        Float8Weight.quantize(flat),
    ):
        torch.testing.assert_close(decoded(store), flat)


def test_symmetric_int4_keeps_no_zeros() -> None:
    store = Int4Weight.quantize(weight(), 32, True)
    assert list(store.tensors()) == ["packed", "scale"]
    assert list(store.scales()) == ["scale"]
    zeros = Int4Weight(store.packed, store.scale, torch.zeros_like(store.scale))
    assert torch.equal(decoded(store), decoded(zeros))
    again = store.replace({name: tensor.clone() for name, tensor in store.tensors().items()})
    store.multiply_scales(torch.full((6, 1), 2.0), 1e-7)
    torch.testing.assert_close(decoded(store), 2 * decoded(again))
