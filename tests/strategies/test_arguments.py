"""Arguments of strategies: refused in one sentence that names them, and what they mean."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch

from zolit.coordinates import Elements, LowRank, OutputScales, Scales
from zolit.errors import UserError
from zolit.formats.dense import DenseWeight
from zolit.noise import Direction
from zolit.strategies import (
    CodePerturber,
    ConstantQueries,
    DensePerturber,
    Float8,
    Int4,
    Int8,
    LowRankPerturber,
    NoMask,
    NoQuantizer,
    RandomBlocks,
    RandomMask,
    ScalePerturber,
)
from zolit.supports import ALL, Blocks, Hashed

PERTURBERS = [DensePerturber, CodePerturber, ScalePerturber]


@pytest.mark.parametrize("eps", [0.0, -1e-3, math.nan, math.inf])
@pytest.mark.parametrize("kind", PERTURBERS)
def test_eps_must_be_positive(kind: type, eps: float) -> None:
    with pytest.raises(UserError, match=f"eps must be a positive number, got {eps}"):
        kind(eps=eps)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CodePerturber(float_unit=0.0), "float_unit must be a positive number, got 0.0"),
        (lambda: CodePerturber(perturb_bits=1), "perturb_bits must be from 2 to 8 or null, got 1"),
        (lambda: CodePerturber(perturb_bits=9), "perturb_bits must be from 2 to 8 or null, got 9"),
        (lambda: ConstantQueries(0), "n must be at least 1, got 0"),
        (lambda: RandomMask(0.0), r"fraction must be in \(0, 1\], got 0.0"),
        (lambda: RandomMask(1.5), r"fraction must be in \(0, 1\], got 1.5"),
        (lambda: RandomMask(math.nan), r"fraction must be in \(0, 1\], got nan"),
        (lambda: Int8(group_size=32, activations="int8"), "group_size must be null"),
        (lambda: Int8(group_size=48).store(torch.ones(2, 96), "w"), "multiple of 32, got 48"),
        (lambda: Int8(group_size=64).store(torch.ones(2, 96), "w"), r"use one of \[32\]"),
        (lambda: Int4(64).store(torch.ones(2, 50), "layer.weight"), "50 input channels of layer"),
        (lambda: Int4(0).store(torch.ones(2, 64), "w"), "got 0"),
    ],
)
def test_refusals_name_argument_and_value(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("eps", [0.7, 1.0, 2.0])
def test_integer_products_need_whole_steps(eps: float) -> None:
    with pytest.raises(UserError, match=r"eps must be a whole multiple of 1\.4"):
        CodePerturber(eps=eps).check(Int8(activations="int8"))


@pytest.mark.parametrize("eps", [1.4, 2.8, 7.0])
def test_whole_steps_are_accepted(eps: float) -> None:
    CodePerturber(eps=eps).check(Int8(activations="int8"))
    CodePerturber(eps=round(eps), distribution="rademacher").check(Int8(activations="int8"))


def test_directions() -> None:
    assert DensePerturber().direction() == Direction("gaussian")
    assert CodePerturber().direction() == Direction("gaussian", 4)
    assert CodePerturber(distribution="rademacher").direction() == Direction("rademacher")
    assert CodePerturber(perturb_bits=None).direction() == Direction("gaussian")
    assert CodePerturber().direction().grid_step == pytest.approx(5 / 7)
    assert Direction("rademacher").grid_step == 1.0
    assert Direction("gaussian").grid_step is None


def test_coordinates_and_units() -> None:
    codes = Int8().store(torch.ones(2, 32), "w")
    floats = DenseWeight(torch.ones(2, 32))
    assert CodePerturber().coordinates(codes) == Elements((1.0, 0.0))
    assert CodePerturber(unit="weight").coordinates(codes) == Elements((0.0, 1.0))
    assert CodePerturber(float_unit=0.5).coordinates(floats) == Elements((0.0, 0.5))
    assert ScalePerturber().coordinates(codes) == OutputScales()
    each = {"granularity": "group"}
    assert ScalePerturber(**each).coordinates(codes) == Scales((1.0, 0.0))
    absolute = ScalePerturber(eps_unit="absolute", **each).coordinates(codes)
    assert absolute == Scales((0.0, 1.0))
    with pytest.raises(UserError, match="eps_unit must be relative with granularity=row"):
        ScalePerturber(eps_unit="absolute")
    assert ScalePerturber(float_unit=0.1).coordinates(floats) == Elements((0.0, 0.1))
    assert DensePerturber().coordinates(floats) == Elements((0.0, 1.0))
    assert LowRankPerturber().coordinates(floats) == LowRank((0.0, 1.0))
    assert LowRankPerturber().coordinates(DenseWeight(torch.ones(1, 32))) == Elements((0.0, 1.0))


def test_masks() -> None:
    where = ("w", DenseWeight(torch.ones(2, 32)), 3, 5)
    assert NoMask().choose(*where) == ALL
    assert RandomBlocks(2).choose(*where) == Blocks(block=3, count=5, moving=2)
    one, two = (RandomMask(0.1, seed=seed).choose(*where) for seed in (1, 2))
    assert isinstance(one, Hashed)
    assert one.density == 0.1
    assert one != two
    with pytest.raises(UserError, match="RandomMask leaves single coordinates out"):
        RandomMask(0.1).check(LowRankPerturber())
    RandomMask(0.1).check(DensePerturber())


def test_queries() -> None:
    assert [ConstantQueries(3).queries(step, 0) for step in (0, 9)] == [3, 3]


def test_formats() -> None:
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    assert Int8(activations="int8").store(weight, "w").integer_products
    assert not Int8().store(weight, "w").integer_products
    emulated = Float8(activations="float8").store(weight, "w")
    assert emulated.activation_dtype == torch.float8_e4m3fn
    assert Int8(group_size=32).store(weight, "w").scale.shape == (4, 2)
    assert Int4(32).store(weight, "w").packed.shape == (4, 32)
    assert NoQuantizer().store(weight, "w").weight is weight
