"""The parts of the rule by themselves: error of a difference, reach, rate, spacing of grids."""

import math

import numpy as np
import pytest
import torch

from zolit.coordinates import Elements, OutputScales
from zolit.formats.dense import DenseWeight
from zolit.formats.float8 import Float8Weight
from zolit.formats.int8 import Int8Weight
from zolit.formats.spacing import spacing, ulp
from zolit.rates.difference import DifferenceError, error_of
from zolit.rates.line import Line
from zolit.rates.walk import Schedule, rate_for, reach_of, rounding_variance, schedule_of

STEPS = torch.tensor([3.0**k for k in range(-3, 4)], dtype=torch.float64)


def lines(noise: float, bend: float, curvature: float = 2.0, count: int = 400) -> list[Line]:
    """Lines of ``L(t) = 1 + s t + curvature / 2 t^2 + bend t^3``, with errors in every loss."""
    generator = torch.Generator().manual_seed(5)
    found = []
    for _ in range(count):
        slope = torch.randn(1, generator=generator, dtype=torch.float64)
        sides = torch.randn(2, len(STEPS), generator=generator, dtype=torch.float64) * noise
        cubic = bend * torch.randn(1, generator=generator, dtype=torch.float64)
        ahead = slope * STEPS + curvature / 2 * STEPS**2 + cubic * STEPS**3 + sides[0]
        behind = -slope * STEPS + curvature / 2 * STEPS**2 - cubic * STEPS**3 + sides[1]
        both, one = (ahead - behind) / (2 * STEPS), ahead / STEPS
        found.append(Line(STEPS, 1.0, (ahead + behind) / 2, both, one))
    return found


def test_the_error_is_found_and_eps_is_where_it_is_least() -> None:
    noise, bend = 0.3, 0.01
    found = error_of(lines(noise, bend))
    # Bounds from above, tight where one part is nearly all: rounding at the shortest distances,
    # the cubic term at the longest. 400 lines know a root mean square within 4 % (one sigma).
    assert found.noise == pytest.approx(noise, rel=0.12)
    assert found.bend == pytest.approx(bend, rel=0.12)
    closed = (noise**2 / (4 * bend**2)) ** (1 / 6)
    best = found.best(float(STEPS[0]), float(STEPS[-1]))
    assert best == pytest.approx(closed, rel=0.1)
    assert found.at(best) < min(found.at(best / 2), found.at(best * 2))


def test_an_error_is_what_it_says() -> None:
    """The root mean square error of simulated differences, at a distance that was not used."""
    noise, bend = 0.3, 0.01
    error = DifferenceError(noise, bend, 0.0, 0.5)
    generator = torch.Generator().manual_seed(7)
    draw = torch.randn(3, 200_000, generator=generator, dtype=torch.float64)
    eps = 1.7
    wrong = noise * (draw[0] - draw[1]) / (2 * eps) + bend * draw[2] * eps**2
    assert float(wrong.square().mean().sqrt()) == pytest.approx(error.at(eps), rel=0.01)


def test_one_side_sees_the_curvature() -> None:
    alone = error_of(lines(1e-3, 1e-4), one_sided=True)
    together = error_of(lines(1e-3, 1e-4), one_sided=True, shared=True)
    assert alone.spread == pytest.approx(1.0, rel=0.05)  # half the curvature
    assert together.spread < 0.01
    assert alone.best(0.01, 10) < together.best(0.01, 10)


@pytest.mark.parametrize("power", [2.0, 1.3])
def test_reach_between_the_distances(power: float) -> None:
    rises = 0.7 * STEPS**power
    line = Line(STEPS, 1.0, rises, STEPS, STEPS)
    for wanted in (0.01, 0.3, 5.0):
        if wanted < float(rises[-1]):
            exact = (wanted / 0.7) ** (1 / power)
            first = wanted <= float(rises[0])
            assert reach_of([line], wanted) == pytest.approx(exact, rel=0.6 if first else 1e-9)
    assert reach_of([line], float(rises[-1]) * 1.01) is None


def test_steps_of_the_rate_add_up_to_the_reach() -> None:
    """The squared length of a simulated walk, beside a direction of that length."""
    generator = torch.Generator().manual_seed(11)
    steps, queries, size, reach = 40, 3, 20_000, 0.8
    slopes = torch.randn(steps, queries, generator=generator, dtype=torch.float64)
    length = float((slopes / queries).square().sum(1).mean().sqrt())
    lr = rate_for(reach, length, Schedule(steps, steps, steps))
    walk = torch.zeros(size, dtype=torch.float64)
    for slope in slopes:
        z = torch.randn(queries, size, generator=generator, dtype=torch.float64)
        walk -= lr / queries * (slope[:, None] * z).sum(0)
    assert float(walk.square().mean().sqrt()) == pytest.approx(reach, rel=0.02)


def test_rounding_at_random_adds_to_the_walk() -> None:
    """The same on a grid, where each step is rounded by the toss of a coin."""
    generator = torch.Generator().manual_seed(13)
    steps, size, reach, grid = 60, 20_000, 0.9, 1.0
    schedule = Schedule(steps, steps, steps)
    lr = rate_for(reach, 1.0, schedule, grid)
    assert lr < rate_for(reach, 1.0, schedule)
    walk = torch.zeros(size, dtype=torch.float64)
    for _ in range(steps):
        move = lr * torch.randn(size, generator=generator, dtype=torch.float64)
        walk += torch.floor(move + torch.rand(size, generator=generator, dtype=torch.float64))
    # Where a move is not much shorter than the grid less is added than counted.
    assert 0.85 * reach < float(walk.square().mean().sqrt()) < 1.02 * reach
    share = lr * rounding_variance(1.0, schedule, grid) / reach**2
    assert share + lr**2 * steps / reach**2 == pytest.approx(1.0)


def test_a_schedule_is_that_of_torch() -> None:
    def cosine(optimizer: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100)

    found = schedule_of(cosine, 100)
    factors = [(1 + math.cos(math.pi * k / 100)) / 2 for k in range(100)]
    assert found.total == pytest.approx(sum(factors))
    assert found.squares == pytest.approx(sum(one**2 for one in factors))
    assert schedule_of(None, 7) == Schedule(7, 7.0, 7.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float8_e4m3fn])
def test_distance_to_the_next_number(dtype: torch.dtype) -> None:
    """All positive numbers of the dtype, by their bits: neighbours differ by what is told."""
    bits = 8 if dtype.itemsize == 1 else 16
    whole = np.arange(2 ** (bits - 1), dtype=np.int64)
    kind = torch.uint8 if bits == 8 else torch.int16
    values = torch.from_numpy(whole).to(kind).view(dtype)
    values = values[values.float().isfinite()]
    gaps = values.double().diff()
    told = ulp(values[:-1]).double()
    normal = values[:-1].double() >= torch.finfo(dtype).smallest_normal
    assert torch.equal(gaps[normal], told[normal])


def test_spacing_of_stored_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(24, 64, generator=generator)
    int8 = Int8Weight.quantize(weight, None)
    assert Elements((1.0, 0.0)).spacing(int8) == pytest.approx(1.0)
    scale = int8.scales()["scale"].double()
    assert Elements((0.0, 1.0)).spacing(int8) == pytest.approx(float(scale.mean()))
    assert OutputScales().spacing(int8) == 0.0
    assert Elements((0.0, 1.0)).spacing(DenseWeight(weight)) == 0.0
    dense = weight.bfloat16()
    following = torch.from_numpy(dense.view(torch.int16).numpy() + 1).view(torch.bfloat16)
    gaps = (following.double() - dense.double()).abs()[4:20]
    assert float(spacing(DenseWeight(dense))) == pytest.approx(float(gaps.mean()), rel=1e-6)
    codes = Float8Weight.quantize(weight).codes[4:20]
    following = (codes.view(torch.uint8) + 1).view(torch.float8_e4m3fn)
    gaps = (following.double() - codes.double()).abs()
    gaps = gaps[gaps.isfinite()]  # the largest number has none behind it
    found = Elements((1.0, 0.0)).spacing(Float8Weight.quantize(weight))
    assert found == pytest.approx(float(gaps.mean()), rel=0.05)
