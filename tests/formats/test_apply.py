"""Updates of every format against numpy: exact rounding, range gating, error feedback.

Steps and scales are powers of two times small integers, so float32 makes no error and the
stored result must be equal bit for bit.
"""

import copy
import math

import numpy as np
import numpy_noise
import pytest
import torch
from format_cases import CASES, CHUNK, FORMATS, Case

from zolit.kernels.arguments import Query, Update
from zolit.kernels.dispatch import Preference
from zolit.noise import Direction, coordinates, split_key

ROUNDING_KEY = 0xDEADBEEF12345678
UNITS = {"codes": (0.5, 0.0), "weights": (0.0, 0.25)}
E4M3 = np.unique(torch.arange(127).to(torch.uint8).view(torch.float8_e4m3fn).double().numpy())


def dyadic(case: Case) -> Case:
    """The same case with power-of-two scales."""
    if case.store.quantized:
        generator = torch.Generator().manual_seed(9)
        shape = case.store.scale.shape
        powers = 2.0 ** torch.randint(-2, 3, shape, generator=generator).float()
        case.store.scale.copy_(powers)
        columns = case.number.shape[1]
        case.scale = np.repeat(powers.double().numpy(), columns // powers.shape[1], axis=1)
    return case


def steps_for(case: Case) -> torch.Tensor:
    """Dyadic steps ``[rows, columns]`` of up to 3 units, in the model's order."""
    generator = torch.Generator().manual_seed(8)
    shape = (case.store.rows, case.store.columns)
    return torch.randint(-3072, 3073, shape, generator=generator) / 1024.0


def stored_order(case: Case, values: torch.Tensor) -> torch.Tensor:
    return case.store.activations(values)


def apply(
    case: Case,
    steps: torch.Tensor,
    unit: tuple[float, float],
    kernels: Preference = "reference",
    residual: torch.Tensor | None = None,
    decay: float = 1.0,
    key: int = ROUNDING_KEY,
) -> None:
    whole = stored_order(case, steps).contiguous()
    words = torch.tensor(split_key(key), dtype=torch.int32)
    for start in range(0, case.store.rows, CHUNK):
        rows = slice(start, min(start + CHUNK, case.store.rows))
        update = Update(
            whole[rows].clone(),
            torch.tensor(unit),
            words,
            None if residual is None else residual[rows],
            None if residual is None else torch.tensor(decay),
        )
        case.store.apply(rows, update, kernels)


def numbers(case: Case) -> np.ndarray:
    """What is stored now, in code units (weights for floats), ``[rows, columns]`` float64."""
    store = case.store
    if not store.quantized:
        return store.weight.double().numpy()
    codes = store.codes() if callable(store.codes) else store.codes
    return codes.double().numpy()


def words_for(case: Case) -> np.ndarray:
    store = case.store
    counter = numpy_noise.counters(store.rows, store.padded_columns)
    return numpy_noise.words(counter, ROUNDING_KEY)[:, : store.columns].astype(np.int64)


def on_integers(case: Case, move: np.ndarray, low: int, high: int) -> np.ndarray:
    draw = (words_for(case) >> 8) / 2.0**24
    moved = case.number + np.floor(move + draw)
    return np.where((moved >= low) & (moved <= high), moved, case.number)


def on_e4m3(case: Case, move: np.ndarray) -> np.ndarray:
    target = case.number + move
    size = np.abs(target)
    below = np.searchsorted(E4M3, size, side="right") - 1
    inside = below < len(E4M3) - 1
    low = E4M3[below]
    high = np.where(inside, E4M3[np.minimum(below + 1, len(E4M3) - 1)], 480.0)
    fraction = np.floor((size - low) / (high - low) * 2**20)
    rounded = np.where(fraction + (words_for(case) & 0xFFFFF) >= 2**20, high, low)
    return np.where(rounded <= 448, np.sign(target) * rounded, case.number)


def on_bfloat16(case: Case, move: np.ndarray) -> np.ndarray:
    bits = (case.number + move).astype(np.float32).view(np.int32).astype(np.int64)
    bits = (bits + (words_for(case) & 0xFFFF)) & ~0xFFFF
    return bits.astype(np.int32).view(np.float32).astype(np.float64)


def expected(form: str, case: Case, move: np.ndarray) -> np.ndarray:
    if form == "float32":
        return (case.number + move).astype(np.float32).astype(np.float64)
    if form == "bfloat16":
        return on_bfloat16(case, move)
    if form == "float8":
        return on_e4m3(case, move)
    return on_integers(case, move, *((-8, 7) if "int4" in form else (-128, 127)))


# Each compilation takes seconds: one of each kernel by default, the others in slow tests.
QUICK = {
    ("bfloat16", True),
    ("int8_row", False),
    ("int8_group", True),
}
QUERIES = [
    *((form, added, "reference") for form in FORMATS for added in (False, True)),
    *(
        pytest.param(
            form, added, "compiled", marks=() if (form, added) in QUICK else pytest.mark.slow
        )
        for form in FORMATS
        for added in (False, True)
    ),
]


@pytest.mark.parametrize(("form", "added", "kernels"), QUERIES)
def test_a_query_made_in_the_kernel_is_a_step(form: str, added: bool, kernels: Preference) -> None:
    """A direction of signs times a dyadic coefficient: exact, so the bits are the same."""
    alone, given = dyadic(FORMATS[form](5, 128)), dyadic(FORMATS[form](5, 128))
    rows, unit = slice(1, 4), torch.tensor(UNITS["codes" if alone.store.quantized else "weights"])
    words = torch.tensor(split_key(ROUNDING_KEY), dtype=torch.int32)
    direction, factor = Direction("rademacher"), torch.tensor(0.75)
    control = torch.tensor(numpy_noise.control_words(7, 3, update=True), dtype=torch.int32)
    index = torch.arange(1, 4, dtype=torch.int32)
    step = steps_for(alone)[rows] if added else None
    z = coordinates(direction, control, index, 1, 4).view(3, 128)
    whole = factor * z + (0 if step is None else step)
    given.store.apply(rows, Update(whole, unit, words), "reference")
    query = Query(direction, control, factor)
    alone.store.apply(rows, Update(step, unit, words, query=query), kernels)
    assert np.array_equal(numbers(alone), numbers(given))


def test_an_update_of_nothing_is_refused() -> None:
    case = FORMATS["int8_row"](5, 128)
    words = torch.tensor(split_key(ROUNDING_KEY), dtype=torch.int32)
    with pytest.raises(ValueError, match="a step or a query"):
        case.store.apply(slice(0, 5), Update(None, torch.ones(2), words), "reference")


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize(("form", "shape"), CASES)
def test_update_is_exact(form: str, shape: tuple[int, int], unit: str) -> None:
    case = dyadic(FORMATS[form](*shape))
    steps = steps_for(case)
    inside, weights = UNITS[unit]
    move = steps.double().numpy() * (weights if not case.store.quantized else inside)
    if case.store.quantized:
        move = steps.double().numpy() * (inside + weights / case.scale)
    before = numbers(case).copy()
    apply(case, steps, UNITS[unit])
    np.testing.assert_array_equal(numbers(case), expected(form, case, move))
    if (inside, form) != (0.5, "float32") and (inside, form) != (0.5, "bfloat16"):
        assert (numbers(case) != before).any()


@pytest.mark.parametrize("form", [f for f in FORMATS if f != "float32"])
def test_update_is_unbiased(form: str) -> None:
    """A step of a third of the grid; mean over 70 x 128 weights and 20 keys, |z| < 4.4."""
    case = dyadic(FORMATS[form](70, 128))
    start = copy.deepcopy(case.store)
    grid = {"float8": 2.0**-4, "bfloat16": 2.0**-8}.get(form, 1.0)
    if form == "float8":
        start.codes.copy_(torch.full((70, 128), 1.0).to(torch.float8_e4m3fn))
    elif form == "bfloat16":
        start.weight.fill_(0.75)
    elif "int8" in form:
        start.codes.clamp_(-100, 100)
    else:
        start.packed.fill_(0x21)
    moved = []
    for key in range(20):
        case.store = copy.deepcopy(start)
        before = numbers(case)
        apply(
            case,
            torch.full((70, 128), grid / 3),
            (1.0, 1.0 if form == "bfloat16" else 0.0),
            key=ROUNDING_KEY + (key << 20),
        )
        moved.append(numbers(case) - before)
    jumps = np.stack(moved) / grid
    assert abs(jumps.mean() - 1 / 3) < 4.4 * math.sqrt(2 / 9 / jumps.size)


@pytest.mark.parametrize(("form", "edge"), [("int8_row", 127), ("int4_group", 7), ("float8", 448)])
@pytest.mark.parametrize("sign", [1, -1])
def test_updates_never_leave_the_range(form: str, edge: int, sign: int) -> None:
    case = FORMATS[form](4, 64)
    limit = edge if sign > 0 or form == "float8" else edge + 1
    if form == "int4_group":
        case.store.packed.fill_(0x77 if sign > 0 else -0x78)
    else:
        case.store.codes.copy_(torch.full((4, 64), float(sign * limit)).to(case.store.codes.dtype))
    residual = torch.zeros(4, 64)
    steps = torch.full((4, 64), sign * 40.25)
    apply(case, steps, (1.0, 0.0), residual=residual)
    assert (numbers(case) == sign * limit).all()
    # What was refused is carried.
    torch.testing.assert_close(residual, steps)
    back = 40.25 if form == "float8" else 2.5
    apply(case, torch.full((4, 64), -sign * back), (1.0, 0.0))
    assert (np.abs(numbers(case)) < limit).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize("form", FORMATS)
def test_error_feedback_loses_nothing(form: str, dtype: torch.dtype) -> None:
    """stored + residual moves by the step and the decayed residual, gated or not."""
    case = dyadic(FORMATS[form](5, 64))
    generator = torch.Generator().manual_seed(5)
    residual = (torch.randint(-64, 65, (5, 64), generator=generator) / 128.0).to(dtype)
    before, carried = numbers(case).copy(), residual.double().numpy().copy()
    unit = (1.0, 0.0) if case.store.quantized else (0.0, 1.0)
    steps = steps_for(case)
    apply(case, steps, unit, residual=residual, decay=0.5)
    total = stored_order(case, steps).double().numpy() + 0.5 * carried
    jump = stored_order(case, torch.from_numpy(numbers(case) - before)).numpy()
    tolerance = 1e-6 if dtype == torch.float32 else 4e-3
    np.testing.assert_allclose(jump + residual.double().numpy(), total, atol=tolerance)


# Every variant is a compilation: 10 s each without inductor's cache.
@pytest.mark.parametrize("feedback", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("form", ["bfloat16", "int8_row", "float8", "int4_group"])
def test_compiled_update_is_bit_identical(form: str, feedback: bool) -> None:
    cases = [dyadic(FORMATS[form](70, 128)) for _ in range(2)]
    residuals = [torch.zeros(70, 128) if feedback else None for _ in cases]
    unit = (1.0, 0.0) if cases[0].store.quantized else (0.0, 0.25)
    kernels: tuple[Preference, ...] = ("reference", "compiled")
    for case, residual, kernel in zip(cases, residuals, kernels, strict=True):
        apply(case, steps_for(case), unit, kernel, residual)
    for one, two in zip(*(case.store.tensors().values() for case in cases), strict=True):
        assert torch.equal(one.view(torch.uint8), two.view(torch.uint8))
    if feedback:
        assert torch.equal(*residuals)
