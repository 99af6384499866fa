"""Perturbed reads of every format against float64 arithmetic on numpy's noise."""

import numpy as np
import numpy_noise
import pytest
import torch
from format_cases import (
    CASES,
    CHUNK,
    DIRECTIONS,
    FORMATS,
    KEY,
    SHAPES,
    SITE,
    Case,
    Drawn,
    perturbation,
)

from zolit.kernels.dispatch import Preference

AMPLITUDE = (0.75, 0.125)
KERNELS: tuple[Preference, ...] = ("reference", "compiled")


def read(
    case: Case, drawn: Drawn | None, copies: int, dtype: torch.dtype, kernels: Preference
) -> list[torch.Tensor]:
    """All rows in chunks, in the model's order of columns."""
    store = case.store
    noise = None if drawn is None else perturbation(drawn, AMPLITUDE)
    chunks = []
    for start in range(0, store.rows, CHUNK):
        rows = slice(start, min(start + CHUNK, store.rows))
        outs = [
            torch.full((rows.stop - start, store.padded_columns), torch.nan, dtype=dtype)
            for _ in range(copies)
        ]
        store.read(rows, outs, noise, kernels)
        chunks.append([out[:, : store.columns] for out in outs])
    return [torch.cat(parts) for parts in zip(*chunks, strict=True)]


def expected(case: Case, drawn: Drawn | None) -> tuple[np.ndarray, np.ndarray]:
    """The weight at plus and at minus."""
    if drawn is None:
        return case.value, case.value
    store, direction, support = case.store, drawn.direction, drawn.support
    z = numpy_noise.direction(
        store.rows,
        store.padded_columns,
        KEY,
        SITE,
        distribution=direction.distribution,
        bits=direction.bits,
        density=support.density,
        mask_key=getattr(support, "key", 0),
    )[:, : store.columns]
    length = (AMPLITUDE[0] * case.scale if store.quantized else 0.0) + AMPLITUDE[1]
    return case.value + length * z, case.value - length * z


def check(got: torch.Tensor, wanted: np.ndarray) -> None:
    # bfloat16 rounds to nearest: half an ulp, at most 2**-8 of the value.
    relative = 2.0**-7.99 if got.dtype == torch.bfloat16 else 1e-6
    np.testing.assert_allclose(got.double().numpy(), wanted, atol=2e-5, rtol=relative)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", [None, *DIRECTIONS])
@pytest.mark.parametrize(("form", "shape"), CASES)
def test_reference_matches_numpy(
    form: str, shape: tuple[int, int], name: str | None, dtype: torch.dtype
) -> None:
    case = FORMATS[form](*shape)
    drawn = None if name is None else DIRECTIONS[name]
    wanted = expected(case, drawn)
    for copies in (1,) if name is None else (1, 2):
        for got, values in zip(read(case, drawn, copies, dtype, "reference"), wanted, strict=False):
            check(got, values)


# Every variant is a compilation: 10 s each without inductor's cache.
SLOW = pytest.mark.slow
COMPILED = [
    *(("int8_row", shape, "rademacher") for shape in SHAPES),
    ("int8_row", SHAPES[1], "bits4"),
    ("int8_row", SHAPES[0], None),
    ("int8_row", SHAPES[1], "sparse_gaussian"),
    *((form, (70, 128), "bits4") for form in ("float32", "int4_group")),
    *((form, (70, 128), "rademacher") for form in ("bfloat16", "float8")),
]
REST = [
    *(("int8_row", shape, "bits4") for shape in SHAPES if shape != SHAPES[1]),
    ("int8_row", SHAPES[1], None),
    ("int8_row", SHAPES[0], "sparse_gaussian"),
    ("float8", (70, 128), "bits4"),
    ("int4_group", (70, 128), "rademacher"),
    *(
        (form, (70, 128), name)
        for form in (
            "float32",
            "bfloat16",
            "int8_group",
            "float8",
            "int4_row",
            "int4_group",
            "int4_symmetric",
        )
        for name in ("gaussian", "sparse_rademacher")
    ),
]


@pytest.mark.parametrize(
    ("form", "shape", "name"), [*COMPILED, *(pytest.param(*one, marks=SLOW) for one in REST)]
)
def test_compiled_matches_reference(form: str, shape: tuple[int, int], name: str | None) -> None:
    case = FORMATS[form](*shape)
    drawn = None if name is None else DIRECTIONS[name]
    dtype = torch.bfloat16 if form == "bfloat16" else torch.float32
    copies = 1 if name is None else 2
    reference = read(case, drawn, copies, dtype, "reference")
    compiled = read(case, drawn, copies, dtype, "compiled")
    for one, two in zip(reference, compiled, strict=True):
        # float32: the compiler may fuse a multiplication and an addition. bfloat16: one ulp.
        relative, absolute = (2e-7, 1e-6) if dtype == torch.float32 else (2.0**-7, 2e-6)
        torch.testing.assert_close(two, one, rtol=relative, atol=absolute)


@pytest.mark.parametrize(
    "name",
    ["rademacher", "bits4", *(pytest.param(name, marks=SLOW) for name in ("bits2", "bits8"))],
)
def test_compiled_directions_are_those_of_the_reference(name: str) -> None:
    """A read of zeros at amplitude 1 is the direction itself: the same grid points, bit for bit."""
    case = FORMATS["float32"](70, 128)
    case.store.weight.zero_()
    one, two = (read(case, DIRECTIONS[name], 2, torch.float32, k) for k in KERNELS)
    different = ((one[0] - two[0]).abs() > 1e-5).sum()
    # A Gaussian may differ by an ulp, so it may be rounded to the neighbour once in ten thousand.
    assert different <= (0 if name == "rademacher" else 2)
    assert (one[0] - two[0]).abs().max() <= DIRECTIONS[name].direction.grid_step * 1.0001
    torch.testing.assert_close(two[0], -two[1], rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMATS)
def test_rows_by_index(form: str) -> None:
    case = FORMATS[form](70, 128)
    whole = read(case, DIRECTIONS["gaussian"], 1, torch.float32, "reference")[0]
    index = torch.tensor([69, 3, 3, 41])
    out = torch.empty(4, case.store.padded_columns)
    noise = perturbation(DIRECTIONS["gaussian"], AMPLITUDE)
    case.store.read(index, [out], noise, "reference")
    torch.testing.assert_close(out[:, : case.store.columns], whole[index], rtol=0, atol=0)
