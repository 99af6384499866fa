"""Directions of low rank: their factors, and what a step moves."""

import pytest
import torch

from zolit.coordinates import LowRank, Site
from zolit.coordinates.low_rank import low_rank_factors
from zolit.kernels.outputs import add_low_rank
from zolit.noise import Direction
from zolit.strategies import Int8, NoQuantizer
from zolit.tensors.reading import Reading
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight

CPU = torch.device("cpu")
SIGNS = Direction("rademacher", rank=1)


def of(direction: Direction, shapes: dict[int, tuple[int, int]], key: int = 7) -> list:
    made = low_rank_factors(direction, key, shapes, CPU, "reference")
    return [made[site] for site in shapes]


def test_factors_of_a_weight_do_not_depend_on_the_others() -> None:
    both = of(SIGNS, {3: (700, 96), 5: (8, 1536)})
    (alone,) = of(SIGNS, {5: (8, 1536)})
    assert torch.equal(both[1].left, alone.left)
    assert torch.equal(both[1].right, alone.right)
    assert both[0].left.shape == (1, 700)


@pytest.mark.parametrize("distribution", ["rademacher", "gaussian"])
def test_coordinates_have_unit_variance_and_no_correlation(distribution: str) -> None:
    direction = Direction(distribution, rank=2)
    z = torch.stack(
        [of(direction, {0: (4, 6)}, key)[0].product(slice(0, 4)) for key in range(4000)]
    )
    flat = z.flatten(1).double()
    covariance = flat.T @ flat / len(flat)
    # The kurtosis of a product of two Gaussians is 9 (with rank 2: 6): its variance has five
    # standard errors of 5 sqrt((6 - 1) / 4000) = 0.18.
    torch.testing.assert_close(covariance, torch.eye(24).double(), atol=0.2, rtol=0)


@pytest.mark.parametrize("queries", [1, 3])
def test_a_step_moves_floats_by_the_direction_it_read(queries: int) -> None:
    reading = Reading(Direction("gaussian", rank=2), "reference")
    value = torch.randn(9, 70, generator=torch.Generator().manual_seed(1))
    store = NoQuantizer().store(value.clone(), "w")
    weight = PerturbedWeight(
        store, Site(4, LowRank((0.0, 1.0))), reading, "w", value.shape, value.dtype
    )
    keys, coefficients = [21, 22, 23][:queries], [0.5, -0.25, 2.0][:queries]
    total = torch.zeros_like(value)
    for key, coefficient in zip(keys, coefficients, strict=True):
        with reading.perturbed(key, 1.0, 1):
            total += coefficient * (weight * 1.0 - value)
    move([weight], keys, coefficients, 5, [None])
    torch.testing.assert_close(weight.store.weight, value + total)


def test_codes_move_by_the_step_on_average() -> None:
    reading = Reading(SIGNS, "reference")
    value = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    store = Int8().store(value, "w")
    site = Site(0, LowRank((0.0, 1.0)))
    weight = PerturbedWeight(store, site, reading, "w", value.shape, value.dtype)
    start = store.codes.clone()
    moved = torch.zeros(4, 64)
    length = 0.3 * store.scale.min().item()
    draws = 2000
    for rounding in range(draws):
        store.codes.copy_(start)
        move([weight], [9], [length], rounding, [None])
        moved += (store.codes - start).float()
    (factors,) = of(SIGNS, {0: (4, 64)}, 9)
    wanted = length * factors.product(slice(0, 4)) / store.scale
    inside = (start > -127) & (start < 127)
    # A jump of 0 or 1 with odds p: five standard errors are 5 sqrt(p (1 - p) / 2000) < 0.056.
    torch.testing.assert_close((moved / draws)[inside], wanted[inside], atol=0.056, rtol=0)


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_add_low_rank_compiled_equals_float64(dtype: torch.dtype, rank: int) -> None:
    generator = torch.Generator().manual_seed(3)
    out = torch.randn(2, 5, 33, generator=generator).to(dtype)
    x = torch.randn(2, 5, 64, generator=generator).to(dtype)
    scale = torch.rand(2, 5, 1, generator=generator)
    right = torch.randn(rank, 64, generator=generator)
    left = torch.randn(rank, 33, generator=generator)
    lengths = torch.tensor([0.5, -0.5]).view(2, 1, 1)
    move = (scale * lengths).double() * (x.double() @ right.T.double() @ left.double())
    wanted = (out.double() + move).to(dtype)
    add_low_rank(out, x, scale, lengths, left, right, preference="compiled")
    torch.testing.assert_close(out, wanted)
