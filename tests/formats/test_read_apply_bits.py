"""Bits of a support in the kernels of every format: what they leave out stays as it is."""

import pytest
import torch
from format_cases import CHUNK, DIRECTIONS, FORMATS, KEY, SITE, perturbation
from numpy_noise import control_words
from test_checkpoint_formats import CASES as CHECKPOINT_CASES
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.int8 import Int8Weight
from zolit.formats.rows import chunks
from zolit.kernels.arguments import Perturbation, Query, Update
from zolit.kernels.dispatch import Preference
from zolit.noise import Direction, coordinates, split_key
from zolit.supports import Bits
from zolit.tensors.workspace import Workspace

AMPLITUDE = (0.75, 0.125)
STORES = {
    **{form: (lambda form=form: FORMATS[form](70, 128).store) for form in FORMATS},
    "odd columns": lambda: FORMATS["int8_row"](40, 50).store,
    **{
        name: (lambda name=name: CHECKPOINT_CASES[name]()[0])
        for name in ("3 bits", "halves of 6 bits", "permuted")
    },
}


def chosen(store: StoredWeight) -> Tensor:
    """A third of the coordinates, and a word without any; in stored order."""
    generator = torch.Generator().manual_seed(store.rows)
    mask = torch.rand(store.rows, store.columns, generator=generator) < 0.3
    mask[:, :32] &= torch.arange(store.rows).unsqueeze(1) % 2 == 0
    return mask


def noise(name: str, bits: Tensor | None = None) -> Perturbation:
    return perturbation(DIRECTIONS[name], AMPLITUDE)._replace(bits=bits)


def read(
    store: StoredWeight, by: Perturbation | None, copies: int, kernels: Preference = "reference"
) -> list[Tensor]:
    """All rows in stored order, in chunks; the last chunk is shorter."""
    outs = [torch.full((store.rows, store.padded_columns), torch.nan) for _ in range(copies)]
    for rows in chunks(store.rows, CHUNK):
        store.read(rows, [out[rows] for out in outs], by, kernels)
    return [out[:, : store.columns] for out in outs]


@pytest.mark.parametrize("name", ["rademacher", "bits4"])
@pytest.mark.parametrize("form", STORES)
def test_reads_move_what_has_its_bit(form: str, name: str) -> None:
    store = STORES[form]()
    mask = chosen(store)
    [rest] = read(store, None, 1)
    whole = read(store, noise(name), 2)
    by = noise(name, Bits.of(mask).bits())
    wanted = [torch.where(mask, one, rest) for one in whole]
    assert (wanted[0] != rest).any()
    for got, want in zip(read(store, by, 2), wanted, strict=True):
        assert torch.equal(got, want)
    index = torch.tensor([store.rows - 1, 0, 5, 5, 2])
    out = torch.empty(5, store.padded_columns)
    store.read(index, [out], by, "reference")
    assert torch.equal(out[:, : store.columns], wanted[0][index])


@pytest.mark.parametrize("form", STORES)
def test_updates_move_what_has_its_bit(form: str) -> None:
    """Beside an update by a step that is 0 elsewhere: the stored bits are the same."""
    store, given = STORES[form](), STORES[form]()
    mask = chosen(store)
    direction, factor = Direction("rademacher"), torch.tensor(0.75)
    control = torch.tensor(control_words(7, 3, update=True), dtype=torch.int32)
    unit = torch.tensor((1.0, 0.0) if store.quantized else (0.0, 0.25))
    words = torch.tensor(split_key(99), dtype=torch.int32)
    query = Query(direction, control, factor, Bits.of(mask).bits())
    for rows in chunks(store.rows, CHUNK):
        index = torch.arange(rows.start, rows.stop, dtype=torch.int32)
        z = coordinates(direction, control, index, 1, store.words).flatten(1)
        z[:, : store.columns] *= mask[rows]
        z[:, store.columns :] = 0
        store.apply(rows, Update(None, unit, words, query=query), "reference")
        given.apply(rows, Update(factor * z, unit, words), "reference")
    for one, two in zip(store.tensors().values(), given.tensors().values(), strict=True):
        assert torch.equal(one.contiguous().view(torch.uint8), two.contiguous().view(torch.uint8))
    [before], [after] = read(STORES[form](), None, 1), read(store, None, 1)
    moved = before != after
    assert not (moved & ~mask).any()
    assert moved.sum() > 0.3 * mask.sum()


def test_integer_products_move_what_has_its_bit() -> None:
    codes = FORMATS["int8_row"](70, 128).store.codes
    store = Int8Weight(codes, torch.ones(70, 1), activation_dtype=torch.int8)
    mask, memory = chosen(store), Workspace()
    by = noise("rademacher", Bits.of(mask).bits())._replace(amplitude=torch.tensor((3.0, 0.0)))
    for rows in (slice(0, 70), slice(30, 50)):
        whole, _ = store.code_versions(rows, 2, by._replace(bits=None), memory, "reference")
        wanted = [torch.where(mask[rows], one, codes[rows]) for one in whole]
        got, _ = store.code_versions(rows, 2, by, memory, "reference")
        for one, two in zip(got, wanted, strict=True):
            assert torch.equal(one, two)
            assert (one != codes[rows]).any()


COMPILED = [
    ("int4_group", "rademacher"),
    *(pytest.param(form, "bits4", marks=pytest.mark.slow) for form in ("float32", "float8")),
    pytest.param("halves of 6 bits", "rademacher", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("form", "name"), COMPILED)
def test_compiled_reads_and_updates_equal_the_reference(form: str, name: str) -> None:
    bits = Bits.of(chosen(STORES[form]())).bits()
    control = torch.tensor(control_words(KEY, SITE, update=True), dtype=torch.int32)
    query = Query(Direction("rademacher"), control, torch.tensor(0.75), bits)
    unit, words = torch.tensor((1.0, 0.0)), torch.tensor(split_key(99), dtype=torch.int32)
    stores = []
    kernels: tuple[Preference, ...] = ("reference", "compiled")
    for kernel in kernels:
        store = STORES[form]()
        for rows in chunks(store.rows, CHUNK):
            store.apply(rows, Update(None, unit, words, query=query), kernel)
        stores.append(store)
    for one, two in zip(*(store.tensors().values() for store in stores), strict=True):
        assert torch.equal(one.contiguous().view(torch.uint8), two.contiguous().view(torch.uint8))
    found = [read(stores[0], noise(name, bits), 2, kernel) for kernel in kernels]
    for one, two in zip(*found, strict=True):
        wrong = (one - two).abs() > 1e-5 * one.abs() + 1e-5
        # A Gaussian may differ by an ulp, so it may be rounded to the neighbour on its grid.
        assert wrong.sum() <= (0 if name == "rademacher" else 2)
