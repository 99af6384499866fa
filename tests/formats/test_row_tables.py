"""Tables of rows: odd numbers of columns, memory, and the compiled read."""

import pytest
import torch
from torch import Tensor

from zolit.formats.row_tables import RowTablesWeight
from zolit.kernels.dispatch import Preference


def made(rows: int, columns: int, bits: int) -> tuple[RowTablesWeight, Tensor]:
    """A weight, and the values that its codes look up."""
    generator = torch.Generator().manual_seed(bits)
    codes = torch.randint(0, 2**bits, (rows, columns), generator=generator)
    table = torch.randn(rows, 2**bits, generator=generator).half()
    scale = torch.rand(rows, 1, generator=generator) + 0.01
    return RowTablesWeight.of_codes(codes, table, scale), (table.float() * scale).gather(1, codes)


def decoded(store: RowTablesWeight, rows: slice | Tensor, kernels: Preference) -> Tensor:
    count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
    out = torch.full((count, store.padded_columns), torch.nan)
    store.read(rows, [out], None, kernels)
    assert out.isfinite().all()
    return store.in_model_order(out)


SHAPES = [(1, 7), (5, 50), (70, 128)]


@pytest.mark.parametrize(
    ("rows", "columns", "kernels"),
    [*((*shape, "reference") for shape in SHAPES), (70, 128, "compiled")],
)
def test_values_are_those_of_the_table(rows: int, columns: int, kernels: Preference) -> None:
    store, wanted = made(rows, columns, 4)
    assert torch.equal(decoded(store, slice(0, rows), kernels), wanted)
    assert torch.equal(decoded(store, slice(rows // 2, rows), kernels), wanted[rows // 2 :])
    index = torch.tensor([rows - 1, 0, rows - 1])
    assert torch.equal(decoded(store, index, kernels), wanted[index])


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_copy_has_the_same_columns(bits: int) -> None:
    store, wanted = made(5, 50, bits)
    again = store.replace({name: one.clone() for name, one in store.tensors().items()})
    assert torch.equal(decoded(again, slice(0, 5), "reference"), wanted)
    assert again.describe() == store.describe()
    assert (again.levels, again.codes().shape) == (2**bits, (5, 50))


def test_memory_is_the_codes_and_half_a_word_for_each_entry() -> None:
    store, _ = made(6, 320, 3)
    held = sum(one.nbytes for one in store.tensors().values())
    assert held == 6 * (320 * 3 // 8 + 8 * 2 + 4)


def test_a_read_in_inference_mode_needs_no_compilation_of_its_own() -> None:
    store, wanted = made(5, 64, 4)
    with torch.inference_mode():
        assert torch.equal(decoded(store, slice(0, 5), "reference"), wanted)
