"""Floats beside a stored weight: what a read gives of them, at rest and along a direction."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from format_cases import FORMATS, KEY, SITE, Drawn, perturbation
from numpy_noise import counters, direction, fold, uniform
from torch import Tensor

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.codebook import CodebookWeight
from zolit.formats.dense import DenseWeight
from zolit.formats.int8 import Int8Weight
from zolit.formats.permuted import PermutedWeight
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.kernels.arguments import Update
from zolit.models.loading.kept_layers import KeptLayers, StoredLayer
from zolit.models.overlay import chosen_entries, overlaid
from zolit.models.plan import Planned
from zolit.noise import Direction
from zolit.strategies import Int8
from zolit.supports import ALL, Bits, Hashed, Support

ROWS, COLUMNS = 6, 64
ENTRIES = torch.tensor([0, 5, 63, 64, 200, 201, 202, 383])
"""In rows 0, 1, 3 and 5: none in rows 2 and 4."""
VALUES = torch.tensor([3.0, -0.5, 0.25, 1.0, -2.0, 0.75, 0.003, 9.0])
SOME_ROWS = [slice(0, 6), slice(1, 4), slice(2, 3), torch.tensor([3, 0, 3, 4]), torch.tensor([2])]


def permuted(rows: int, columns: int) -> StoredWeight:
    inner = FORMATS["int4_group"](rows, columns).store
    order = torch.randperm(columns, generator=torch.Generator().manual_seed(3))
    return PermutedWeight(inner, order)


def codebook(rows: int, columns: int) -> StoredWeight:
    generator = torch.Generator().manual_seed(4)
    codes = torch.randint(0, 8, (rows, columns // 8, 2), generator=generator).to(torch.int8)
    books = torch.randn(2, 8, 8, generator=generator)
    return CodebookWeight(codes, books, torch.rand(rows, 1, generator=generator) + 0.1)


UNDER = {
    **{n: (lambda r, c, make=make: make(r, c).store) for n, make in FORMATS.items()},
    "permuted": permuted,
    "codebook": codebook,
}


def read(store: StoredWeight, rows: slice | Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
    out = torch.empty(count, store.padded_columns, dtype=dtype)
    store.read(rows, [out], None, "reference")
    return store.in_model_order(out)


def chosen(support: Support) -> Callable[[StoredWeight], Tensor]:
    return lambda weight: chosen_entries(support, weight, Planned(("w",), 1, True, False))


@pytest.mark.parametrize("name", UNDER)
def test_reads_are_the_weight_with_its_entries_replaced(name: str) -> None:
    dense = UNDER[name](ROWS, COLUMNS)
    wanted = read(dense, slice(0, ROWS)).clone()
    wanted.view(-1)[ENTRIES] = VALUES
    store = SparseOverlay.of(dense, ENTRIES, VALUES)
    for rows in SOME_ROWS:
        assert torch.equal(read(store, rows), wanted[rows])
    wide = {"positions": store.positions.long()}  # as of more than 2**31 entries
    again = store.replace({n: t.clone() for n, t in (store.tensors() | wide).items()})
    for rows in SOME_ROWS:
        assert torch.equal(read(again, rows), wanted[rows])
    assert store.format_name == f"SparseOverlay of {dense.format_name}"


def test_columns_that_fill_no_word() -> None:
    dense = Int8Weight.quantize(torch.randn(3, 50), None)
    store = SparseOverlay.of(dense, torch.tensor([49, 50, 149]), torch.tensor([1.0, 2.0, 3.0]))
    found = read(store, slice(0, 3))
    assert found[[0, 1, 2], [49, 0, 49]].tolist() == [1.0, 2.0, 3.0]
    assert store.positions.dtype == torch.int32


@pytest.mark.parametrize("kind", ["gaussian", "rademacher"])
@pytest.mark.parametrize("name", ["int4_group", "permuted", "codebook"])
def test_a_direction_moves_the_entries_alone(name: str, kind: str) -> None:
    store = SparseOverlay.of(UNDER[name](ROWS, COLUMNS), ENTRIES, VALUES)
    noise = perturbation(Drawn(Direction(kind)), (0.0, 0.25))
    z = direction(1, 32, KEY, SITE, distribution=kind)[0, : len(ENTRIES)]
    rest = read(store, slice(0, ROWS)).double()
    for rows in SOME_ROWS:
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        outs = [torch.empty(count, store.padded_columns) for _ in range(2)]
        store.read(rows, outs, noise, "reference")
        for sign, out in zip((1, -1), outs, strict=True):
            wanted = rest.clone()
            wanted.view(-1)[ENTRIES] += torch.from_numpy(sign * 0.25 * z)
            got = store.in_model_order(out).double()
            torch.testing.assert_close(got, wanted[rows], atol=1e-6, rtol=1e-6)


def test_bfloat16_reads_lose_nothing_of_a_direction_on_average() -> None:
    """At 1.5 the spacing is 2**-7, 8 times the step; mean over 4000 entries, |z| < 5."""
    count, step = 4000, 1e-3
    dense = Int8Weight.quantize(torch.ones(count, 32), None)
    entries = torch.arange(count) * 32 + 7
    store = SparseOverlay.of(dense, entries, torch.full((count,), 1.5))
    noise = perturbation(Drawn(Direction("rademacher")), (0.0, step))
    outs = [torch.empty(count, 32, dtype=torch.bfloat16) for _ in range(2)]
    store.read(slice(0, count), outs, noise, "reference")
    plus, minus = (out[:, 7].double().numpy() for out in outs)
    z = direction(count // 32, 32, KEY, SITE, distribution="rademacher").ravel()
    slope = (plus - minus) / (2 * step) * z
    error = slope.std(ddof=1) / np.sqrt(count)
    assert abs(slope.mean() - 1) < 5 * error < 0.5
    assert abs(plus.mean() - 1.5) < 5 * plus.std(ddof=1) / np.sqrt(count)
    # At rest it is rounded to nearest.
    assert (read(store, slice(0, count), torch.bfloat16)[:, 7] == 1.5).all()


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("gaussian", torch.bfloat16),
        pytest.param("gaussian", torch.float32, marks=pytest.mark.slow),
        pytest.param("rademacher", torch.bfloat16, marks=pytest.mark.slow),
    ],
)
def test_compiled_reads_equal_the_reference(kind: str, dtype: torch.dtype) -> None:
    noise = perturbation(Drawn(Direction(kind)), (0.0, 0.125))
    for rows in (ROWS, 3):
        dense = FORMATS["int4_group"](ROWS, COLUMNS).store
        store = SparseOverlay.of(dense, ENTRIES, VALUES)
        both = []
        for preference in ("reference", "compiled"):
            outs = [torch.full((rows, COLUMNS), 7.0, dtype=dtype) for _ in range(2)]
            store.read(slice(0, rows), outs, noise, preference)
            both.append(torch.stack(outs))
        if dtype == torch.float32:
            torch.testing.assert_close(both[1], both[0], atol=1e-6, rtol=1e-6)
        else:
            assert (both[1] != both[0]).sum() <= 1


def test_products_of_integers_and_moves_of_codes_are_refused() -> None:
    whole = Int8(activations="int8").store(torch.randn(ROWS, COLUMNS), "w")
    with pytest.raises(ValueError, match="multiplied in integers"):
        SparseOverlay.of(whole, ENTRIES, VALUES)
    store = SparseOverlay.of(UNDER["int4_group"](ROWS, COLUMNS), ENTRIES, VALUES)
    update = Update(None, torch.ones(2), torch.ones(2, dtype=torch.int32))
    with pytest.raises(TypeError, match="only its floats move"):
        store.apply(slice(0, 1), update, "reference")


def test_other_entries_are_another_format() -> None:
    dense = UNDER["int4_group"](ROWS, COLUMNS)
    one, same = (SparseOverlay.of(dense, ENTRIES, values) for values in (VALUES, 0 * VALUES))
    other = SparseOverlay.of(dense, ENTRIES + (ENTRIES == 5), VALUES)
    assert one.describe() == same.describe() != other.describe()


def test_entries_that_supports_name() -> None:
    inside = uniform(counters(40, 96), fold(6, SITE, 5)) < 0.2
    one = Planned(("w",), SITE, True, False)

    def found(support: Support, columns: int, device: str = "cpu") -> Tensor:
        return chosen_entries(support, DenseWeight(torch.ones(40, columns, device=device)), one)

    for columns in (96, 70):  # the counters of 70 columns are those of 96
        wanted = torch.from_numpy(np.flatnonzero(inside[:, :columns]))
        assert torch.equal(found(Hashed(0.2, 6), columns), wanted)
        bits = Bits.of(torch.from_numpy(inside[:, :columns]))
        assert torch.equal(found(bits, columns), wanted)
    assert len(found(Hashed(0.2, 6), 96, "meta")) == 768
    meta = Bits(torch.empty(40, 3, dtype=torch.int32, device="meta"), 96, 0.1)
    assert len(found(meta, 96, "meta")) == 384
    with pytest.raises(UserError, match=r"gives w bits for 40x96 .* expected 40x70"):
        found(Bits.of(torch.from_numpy(inside)), 70)


def test_a_checkpoint_keeps_its_codes_and_lends_its_values() -> None:
    dense = permuted(ROWS, COLUMNS)
    quantizer = KeptLayers({"w": StoredLayer(lambda: dense, "some")})
    weight = torch.zeros(ROWS, COLUMNS)
    store = overlaid(quantizer, weight, "w", chosen(Hashed(0.1, 2)))
    assert isinstance(store, SparseOverlay)
    assert store.inner is dense
    assert torch.equal(read(store, slice(0, ROWS)), read(dense, slice(0, ROWS)))
    assert store.values.abs().min() > 0


@pytest.mark.parametrize(
    ("support", "said"),
    [(ALL, "lets w move whole"), (Hashed(1e-6, 1), r"leaves no entry of w \(6 x 64\)")],
)
def test_a_choice_of_all_or_nothing_is_refused(support: Support, said: str) -> None:
    with pytest.raises(UserError, match=said):
        overlaid(Int8(), torch.ones(ROWS, COLUMNS), "w", chosen(support))


def test_a_checkpoint_of_integer_products_is_refused() -> None:
    whole = Int8(activations="int8").store(torch.randn(ROWS, COLUMNS), "w")
    quantizer = KeptLayers({"w": StoredLayer(lambda: whole, "some")})
    with pytest.raises(UserError, match="multiplies in integers"):
        overlaid(quantizer, torch.zeros(ROWS, COLUMNS), "w", chosen(Hashed(0.1, 2)))
