"""What weights say of themselves: names that checkpoints hold, codes and scales for exports."""

import pytest
import torch

from zolit.formats.base import StoredWeight
from zolit.formats.bit_planes import BitPlanesWeight
from zolit.formats.codebook import CodebookWeight
from zolit.formats.dense import DenseWeight
from zolit.formats.float8 import Float8Weight
from zolit.formats.int4 import Int4Weight
from zolit.formats.int8 import Int8Weight
from zolit.formats.permuted import PermutedWeight
from zolit.formats.row_tables import RowTablesWeight
from zolit.tensors.reading import Reading

FLOATS = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
CODES = torch.randint(0, 8, (4, 64), generator=torch.Generator().manual_seed(1))
SCALE, ZERO = torch.full((4, 2), 0.5), torch.full((4, 2), -1.0)


def planes(groups: int, zero: bool) -> StoredWeight:
    scale = torch.full((4, groups), 0.5)
    return BitPlanesWeight.of_codes(CODES, 3, scale, -scale if zero else None)


STORES: dict[str, StoredWeight] = {
    "DenseWeight": DenseWeight(FLOATS),
    "Int8Weight": Int8Weight.quantize(FLOATS, 32),
    "Int8ZeroWeight": Int8Weight(CODES.to(torch.int8), SCALE, ZERO),
    "IntegerWeight": Int8Weight.quantize(FLOATS, None, torch.int8),
    "Int4Weight": Int4Weight.quantize(FLOATS, 32, symmetric=False),
    "Float8Weight": Float8Weight.quantize(FLOATS),
    "EmulatedFloat8Weight": Float8Weight.quantize(FLOATS, torch.float8_e4m3fn),
    "GroupedWeight of 3 bits": planes(2, zero=True),
    "HalfWordWeight of 3 bits": planes(4, zero=False),
    "CodebookWeight": CodebookWeight(
        torch.zeros(4, 8, 1, dtype=torch.int8), torch.ones(1, 256, 8), SCALE[:, :1]
    ),
    "RowTablesWeight of 3 bits": RowTablesWeight.of_codes(
        CODES, FLOATS[:, :8].half(), SCALE[:, :1]
    ),
    "PermutedWeight of GroupedWeight of 3 bits": PermutedWeight(
        planes(2, zero=False), torch.arange(63, -1, -1)
    ),
}


@pytest.mark.parametrize("name", STORES)
def test_names_are_those_that_checkpoints_of_before_hold(name: str) -> None:
    store = STORES[name]
    again = store.replace({key: tensor.clone() for key, tensor in store.tensors().items()})
    for one in (store, again):
        assert one.describe() == {"format": name, "rows": 4, "columns": 64}
    assert again.activation_dtype == store.activation_dtype


@pytest.mark.parametrize("name", STORES)
def test_codes_times_scales_are_the_weight(name: str) -> None:
    store = STORES[name]
    decoded = torch.empty(4, 64)
    store.read(slice(0, 4), [decoded], None, "reference")
    floats, found = store.floats(), store.affine()
    if floats is not None:
        assert torch.equal(floats, decoded)
    if found is None:
        assert name.split("Weight")[0] in ("Dense", "Codebook", "Permuted", "RowTables")
        return
    spread = [
        torch.zeros(()) if part is None else part.repeat_interleave(64 // part.shape[1], dim=1)
        for part in (found.scale, found.zero)
    ]
    torch.testing.assert_close(found.codes.float() * spread[0] + spread[1], decoded)
    assert float(found.codes.float().min()) >= found.lowest


@pytest.mark.parametrize("name", STORES)
def test_only_int8_activations_multiply_integers(name: str) -> None:
    store = STORES[name]
    assert store.integer_products == (name == "IntegerWeight")
    memory = Reading()
    if not store.integer_products:
        with pytest.raises(TypeError, match="no product of integers"):
            store.code_versions(slice(0, 4), 1, None, memory, "reference")


def test_integer_products_take_one_scale_a_row() -> None:
    with pytest.raises(ValueError, match="one scale a row and no zero, got 2 scales"):
        Int8Weight(CODES.to(torch.int8), SCALE, activation_dtype=torch.int8)
