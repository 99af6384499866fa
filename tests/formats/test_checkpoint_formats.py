"""Formats beside the plain ones: bit planes, int8 with zeros, codebooks, tables, permuted columns.

Reads are compared with float64 arithmetic on numpy's noise, updates with numpy's rounding.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy_noise
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.coordinates import Coordinates, Elements, OutputScales, Scales, Site
from zolit.coordinates.scales import SCALE_FLOOR
from zolit.formats.base import StoredWeight
from zolit.formats.bit_planes import BitPlanesWeight
from zolit.formats.codebook import CodebookWeight
from zolit.formats.int8 import Int8Weight
from zolit.formats.permuted import PermutedWeight
from zolit.formats.row_tables import RowTablesWeight
from zolit.kernels.arguments import Perturbation, Query, Update
from zolit.kernels.dispatch import Preference
from zolit.noise import Direction, split_key
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight

ROWS, COLUMNS, GROUPS = 37, 192, 3
KEY, EPS, AMPLITUDE = 77, 0.25, (0.75, 0.125)
KERNELS: tuple[Preference, ...] = ("reference", "compiled")
QUICK = ("3 bits", "halves of 6 bits", "int8 with zeros", "2x8")
"""Compiled by default; the other compilations take 10 s each without inductor's cache."""


def random_parts(
    low: int, high: int, seed: int, groups: int = GROUPS
) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(low, high, (ROWS, COLUMNS), generator=generator)
    scale = 0.01 + torch.rand(ROWS, groups, generator=generator)
    return codes, scale, torch.randn(ROWS, groups, generator=generator)


def spread(part: Tensor) -> np.ndarray:
    return np.repeat(part.double().numpy(), COLUMNS // part.shape[1], axis=1)


def planes(bits: int) -> tuple[StoredWeight, np.ndarray]:
    codes, scale, zero = random_parts(0, 2**bits, bits)
    value = codes.double().numpy() * spread(scale) + spread(zero)
    return BitPlanesWeight.of_codes(codes, bits, scale, zero), value


def halves(bits: int, centred: bool) -> tuple[StoredWeight, np.ndarray]:
    """A scale for each 16 columns, of either sign; zeros, or codes around the middle one."""
    codes, scale, zero = random_parts(0, 2**bits, bits, COLUMNS // 16)
    scale[:, ::3] *= -1
    value = codes.double().numpy() * spread(scale)
    value += spread(-(2.0 ** (bits - 1)) * scale) if centred else spread(zero)
    return BitPlanesWeight.of_codes(codes, bits, scale, None if centred else zero), value


def centred_planes() -> tuple[StoredWeight, np.ndarray]:
    codes, scale, _ = random_parts(0, 32, 1)
    scale *= -1
    store = BitPlanesWeight.of_codes(codes, 5, scale, None)
    return store, (codes.double().numpy() - 16) * spread(scale)


def int8_zero() -> tuple[StoredWeight, np.ndarray]:
    codes, scale, zero = random_parts(-128, 128, 1)
    value = codes.double().numpy() * spread(scale) + spread(zero)
    return Int8Weight(codes.to(torch.int8), scale, zero), value


def codebook(books: int, bits: int) -> tuple[StoredWeight, np.ndarray]:
    draw = np.random.default_rng(books)
    index = draw.integers(0, 2**bits, (ROWS, COLUMNS // 8, books))
    vectors = draw.standard_normal((books, 2**bits, 8)).astype(np.float16)
    scale = draw.uniform(-1, 1, (ROWS, 1)).astype(np.float32)
    wrapped = np.where(index >= 2 ** (bits - 1), index - 2**bits, index)
    codes = torch.from_numpy(wrapped.astype(np.int8 if bits <= 8 else np.int16))
    parts = [vectors[m].astype(np.float64)[index[:, :, m]] for m in range(books)]
    value = sum(parts).reshape(ROWS, COLUMNS) * scale
    return CodebookWeight(codes, torch.from_numpy(vectors), torch.from_numpy(scale)), value


def tables(bits: int) -> tuple[StoredWeight, np.ndarray]:
    codes, scale, _ = random_parts(0, 2**bits, bits, 1)
    table = torch.randn(ROWS, 2**bits, generator=torch.Generator().manual_seed(2)).half()
    value = np.take_along_axis(table.double().numpy(), codes.numpy(), axis=1) * spread(scale)
    return RowTablesWeight.of_codes(codes, table, scale), value


def permuted() -> tuple[StoredWeight, np.ndarray]:
    inner, stored = planes(3)
    order = torch.randperm(COLUMNS, generator=torch.Generator().manual_seed(1))
    value = np.empty_like(stored)
    value[:, order.numpy()] = stored
    return PermutedWeight(inner, order), value


CASES: dict[str, Callable[[], tuple[StoredWeight, np.ndarray]]] = {
    "2 bits": lambda: planes(2),
    "3 bits": lambda: planes(3),
    "5 bits": lambda: planes(5),
    "8 bits": lambda: planes(8),
    "5 bits, centred": centred_planes,
    "halves of 3 bits": lambda: halves(3, False),
    "halves of 6 bits": lambda: halves(6, True),
    "int8 with zeros": int8_zero,
    "1x16": lambda: codebook(1, 16),
    "2x8": lambda: codebook(2, 8),
    "4x5": lambda: codebook(4, 5),
    "tables of 3 bits": lambda: tables(3),
    "tables of 4 bits": lambda: tables(4),
    "permuted": permuted,
}
INDICES = ("1x16", "2x8", "4x5", "tables of 3 bits", "tables of 4 bits")
MOVING = [name for name in CASES if name not in INDICES]


def with_kernels(names: list[str], quick: Sequence[str] = QUICK) -> list[Any]:
    """Each name with the reference and, unless it is quick, in a slow test compiled."""
    compiled = [
        pytest.param(name, "compiled", marks=[] if name in quick else pytest.mark.slow)
        for name in names
    ]
    return [*((name, "reference") for name in names), *compiled]


def noise(direction: Direction, site: int = 2) -> Perturbation:
    words = numpy_noise.control_words(KEY, site)
    return Perturbation(direction, torch.tensor(words, dtype=torch.int32), torch.tensor(AMPLITUDE))


def read(
    store: StoredWeight, noise: Perturbation | None, kernels: Preference, copies: int
) -> list[Tensor]:
    """All rows, in chunks of 16, in the model's order of columns."""
    chunks = []
    for start in range(0, ROWS, 16):
        rows = slice(start, min(start + 16, ROWS))
        outs = [torch.full((rows.stop - start, COLUMNS), torch.nan) for _ in range(copies)]
        store.read(rows, outs, noise, kernels)
        chunks.append([store.in_model_order(out) for out in outs])
    return [torch.cat(parts) for parts in zip(*chunks, strict=True)]


@pytest.mark.parametrize(("name", "kernels"), with_kernels(list(CASES)))
def test_read_at_rest(name: str, kernels: Preference) -> None:
    store, value = CASES[name]()
    np.testing.assert_allclose(
        read(store, None, kernels, 1)[0].numpy(), value, rtol=1e-6, atol=2e-6
    )


@pytest.mark.parametrize(("name", "kernels"), with_kernels(MOVING))
def test_perturbed_read(name: str, kernels: Preference) -> None:
    store, value = CASES[name]()
    inner = store.inner if isinstance(store, PermutedWeight) else store
    z = numpy_noise.direction(ROWS, COLUMNS, KEY, 2, distribution="gaussian", bits=4)
    length = AMPLITUDE[0] * spread(inner.scale) + AMPLITUDE[1]
    added = store.in_model_order(torch.from_numpy(length * z)).numpy()
    plus, minus = read(store, noise(Direction("gaussian", 4)), kernels, 2)
    wrong = np.abs(plus.numpy() - (value + added)) > 1e-4
    # A Gaussian coordinate may differ by an ulp, and so round to the neighbour on its grid.
    assert wrong.sum() <= 1
    assert (np.abs(minus.numpy() - (value - added)) > 1e-4).sum() <= 1


@pytest.mark.parametrize("name", ["1x16", "2x8", "tables of 3 bits"])
def test_indices_do_not_move(name: str) -> None:
    store, _ = CASES[name]()
    with pytest.raises(TypeError, match="do not move"):
        store.read(slice(0, 2), [torch.empty(2, COLUMNS)], noise(Direction()), "reference")
    update = Update(torch.ones(2, 2), torch.ones(2), torch.zeros(2))
    with pytest.raises(TypeError, match="do not move"):
        store.apply(slice(0, 2), update, "reference")


def test_planes_take_n_bits_a_code() -> None:
    store, _ = planes(3)
    assert sum(p.numel() for p in store.planes) * 32 == 3 * ROWS * COLUMNS
    codes = torch.randint(0, 8, (ROWS, COLUMNS), generator=torch.Generator().manual_seed(3))
    assert torch.equal(store.codes(), codes.int())
    assert store.describe()["format"] == "GroupedWeight of 3 bits"


@pytest.mark.parametrize(
    ("name", "kernels"), with_kernels(["2 bits", "3 bits", "halves of 6 bits"], quick=["3 bits"])
)
def test_update_of_planes_is_exact(name: str, kernels: Preference) -> None:
    """Dyadic steps: float32 makes no error, so the codes are those of numpy."""
    store, _ = CASES[name]()
    before = store.codes().numpy()
    steps = torch.randint(-2048, 2049, (ROWS, COLUMNS), generator=torch.Generator().manual_seed(8))
    steps = steps / 1024.0
    words = torch.tensor(split_key(99), dtype=torch.int32)
    update = Update(steps.clone(), torch.tensor((0.5, 0.0)), words)
    store.apply(slice(0, ROWS), update, kernels)
    counter = numpy_noise.counters(ROWS, COLUMNS)
    draw = (numpy_noise.words(counter, 99).astype(np.int64) >> 8) / 2.0**24
    moved = before + np.floor(0.5 * steps.double().numpy() + draw)
    wanted = np.where((moved >= 0) & (moved < 2**store.bits), moved, before)
    assert (wanted != before).any()
    np.testing.assert_array_equal(store.codes().numpy(), wanted)


def test_update_of_planes_with_a_query_and_error_feedback() -> None:
    store, _ = planes(2)
    before = store.codes()
    residual = torch.zeros(ROWS, COLUMNS)
    direction = Direction("rademacher")
    control = torch.tensor(numpy_noise.control_words(7, 3, update=True), dtype=torch.int32)
    query = Query(direction, control, torch.tensor(0.75))
    words = torch.tensor(split_key(99), dtype=torch.int32)
    unit, decay = torch.tensor((1.0, 0.0)), torch.tensor(1.0)
    update = Update(None, unit, words, residual, decay, query)
    for kernels in KERNELS:
        store.apply(slice(0, ROWS), update, kernels)
    z = numpy_noise.direction(ROWS, COLUMNS, 7, 3, distribution="rademacher", bits=None)
    carried = (store.codes() - before) + residual
    np.testing.assert_array_equal(carried.numpy(), 1.5 * z)


KINDS: dict[str, Coordinates] = {
    "output_scales": OutputScales(),
    "scales": Scales((1.0, 0.0)),
    "elements": Elements((1.0, 0.0)),
}


def wrapped(store: StoredWeight, kernels: Preference, kind: str) -> PerturbedWeight:
    reading = Reading(Direction("gaussian"), kernels, chunk_bytes=20_000)
    site = Site(0, KINDS[kind])
    shape = torch.Size((ROWS, COLUMNS))
    return PerturbedWeight(store, site, reading, "w", shape, torch.float32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_products_are_those_of_the_weight(name: str, kind: str) -> None:
    if kind == "elements" and name not in MOVING:
        return
    store, value = CASES[name]()
    weight = wrapped(store, "reference", kind)
    x = torch.randn(4, 3, COLUMNS, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(
        F.linear(x, weight).double(), x.double() @ torch.from_numpy(value).T, rtol=1e-4, atol=1e-4
    )
    torch.testing.assert_close(weight.dense().numpy(), value.astype(np.float32))
    both = []
    for sign in (1, -1):
        with weight.reading.perturbed(KEY, sign * EPS, 1):
            both.append(weight * 1.0)
    assert not torch.equal(*both)
    with weight.reading.perturbed(KEY, EPS, 2):
        got = F.linear(x, weight)
    wanted = torch.cat((x[:2] @ both[0].T, x[2:] @ both[1].T))
    # Sums of 192 terms of up to some hundreds, in float32.
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_scales_move_with_their_zeros(name: str) -> None:
    store, value = CASES[name]()
    weight = wrapped(store, "reference", "output_scales")
    codes = {k: t.clone() for k, t in store.tensors().items() if k not in store.scales()}
    move([weight], [5, 6], [0.01, -0.02], 1, [None])
    z = [
        numpy_noise.direction(1, ROWS, key, 0, distribution="gaussian", bits=None)[0, :ROWS]
        for key in (5, 6)
    ]
    factor = 1 + 0.01 * z[0] - 0.02 * z[1]
    got = read(store, None, "reference", 1)[0].numpy()
    np.testing.assert_allclose(got, value * factor[:, None], rtol=1e-5, atol=1e-5)
    assert all(torch.equal(t, codes[k]) for k, t in store.tensors().items() if k in codes)
    assert all(t.dtype == torch.float32 for t in store.scales().values())


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_each_scale_moves_by_itself(name: str, absolute: bool) -> None:
    """By a fraction of it, or by a length; read and updated alike, zeros in proportion."""
    store, value = CASES[name]()
    weight = wrapped(store, "reference", "scales")
    if absolute:
        weight.site = Site(0, Scales((0.0, 1.0)))
    scale = store.scales()["scale"].double().numpy()
    groups = scale.shape[1]
    z = [
        numpy_noise.direction(ROWS, 32, key, 0, distribution="gaussian", bits=None)[:, :groups]
        for key in (5, 6)
    ]
    length = 1 / np.abs(scale) if absolute else np.ones_like(scale)

    def scaled(factor: np.ndarray) -> np.ndarray:
        wide = torch.from_numpy(np.repeat(factor, COLUMNS // groups, axis=1))
        return value * store.in_model_order(wide).numpy()

    for sign in (1, -1):
        with weight.reading.perturbed(5, sign * 0.01, 1):
            got = weight.dense().double().numpy()
        np.testing.assert_allclose(
            got, scaled(1 + sign * 0.01 * length * z[0]), rtol=1e-4, atol=1e-4
        )
    move([weight], [5, 6], [0.001, -0.002], 1, [None])
    factor = 1 + length * (0.001 * z[0] - 0.002 * z[1])
    smallest = SCALE_FLOOR / np.abs(scale)
    got = read(store, None, "reference", 1)[0].numpy()
    wanted = scaled(np.maximum(factor, smallest))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["3 bits", "halves of 6 bits", "1x16"])
def test_scales_stop_at_the_floor_on_their_side_of_zero(name: str) -> None:
    store, _ = CASES[name]()
    sign = store.scale.sign().clone()
    assert (sign < 0).any() == (name != "3 bits")
    store.multiply_scales(torch.full((ROWS, 1), -1e-12), SCALE_FLOOR)
    torch.testing.assert_close(store.scale, SCALE_FLOOR * sign)


@pytest.mark.parametrize("name", CASES)
def test_tensors_rebuild_the_weight(name: str) -> None:
    store, value = CASES[name]()
    other = store.replace({k: t.clone() for k, t in store.tensors().items()})
    np.testing.assert_allclose(
        read(other, None, "reference", 1)[0].numpy(), value, rtol=1e-6, atol=2e-6
    )
    assert other.describe() == store.describe()
    assert store.scales().keys() <= store.tensors().keys()


def test_columns_that_leave_a_word_unfinished() -> None:
    """AQLM vectors of 8 columns may end inside a word of 32."""
    store, value = codebook(2, 8)
    short = CodebookWeight(store.codes[:, :-1].contiguous(), store.codebooks, store.scale)
    assert (short.columns, short.padded_columns) == (COLUMNS - 8, COLUMNS)
    x = torch.randn(5, COLUMNS - 8, generator=torch.Generator().manual_seed(3))
    out = torch.empty(ROWS, COLUMNS)
    short.read(slice(0, ROWS), [out], None, "reference")
    got = short.activations(x) @ out.T
    np.testing.assert_allclose(got.numpy(), x.numpy() @ value[:, :-8].T, rtol=1e-4, atol=1e-3)


def test_rows_by_index() -> None:
    for name in CASES:
        store, value = CASES[name]()
        index = torch.tensor([36, 3, 3, 12])
        out = torch.empty(4, COLUMNS)
        store.read(index, [out], None, "reference")
        got = store.in_model_order(out)
        np.testing.assert_allclose(got.numpy(), value[index.numpy()], rtol=1e-6, atol=2e-6)
