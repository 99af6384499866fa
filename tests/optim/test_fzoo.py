"""FZOO's steps: the released code's formula in numpy, and the normalized gradient of theory."""

import math

import numpy as np
import pytest
import torch
from one_weight import directions, gradient, parameter

from zolit.errors import UserError
from zolit.optim import FZOO
from zolit.optim.base import StepParts
from zolit.strategies import CodePerturber, Int8, NoQuantizer, OneSided

LOSSES, REST, EPS = [2.31, 2.25, 2.40, 2.28], 2.29, 1e-3


@pytest.mark.parametrize("unbiased", [False, True])
def test_a_step_is_that_of_the_formula(unbiased: bool) -> None:
    """``theta - lr * sum_i (l_i - l_0) / (N std(l)) u_i``; the released code divides std by N."""
    weight = parameter(NoQuantizer())
    start = weight.dense().double().numpy()
    values = [(loss - REST) / EPS for loss in LOSSES]
    FZOO([weight], lr=0.01, unbiased=unbiased).step(gradient=gradient(values))
    deviation = np.std(LOSSES, ddof=int(unbiased))
    coefficients = (np.array(LOSSES) - REST) / (len(LOSSES) * deviation)
    moved = np.tensordot(coefficients, directions(len(LOSSES)), 1)
    np.testing.assert_allclose(weight.dense().numpy(), start - 0.01 * moved, atol=1e-6)


def test_the_scale_of_the_loss_and_eps_do_not_matter() -> None:
    optimizer = FZOO([parameter(NoQuantizer())], lr=0.01)
    values = torch.tensor([1.0, -2.0, 0.5])
    wanted = optimizer.direction_factors(values)
    for factor in (1e-6, 1e6):
        torch.testing.assert_close(optimizer.direction_factors(factor * values), wanted)


def test_on_a_linear_loss_it_is_normalized_gradient_descent() -> None:
    """Along the gradient G a step of N centered differences goes lr (N - 1) / N c4(N) on average.

    c4 is the mean of a standard deviation of N normal numbers over the true one; slopes along
    signs of 400 coordinates are normal to that accuracy. |z| < 5 over 400 steps, fixed seed.
    """
    rng, n, d = np.random.default_rng(0), 16, 400
    slope = rng.normal(size=d) * 37.0
    length = np.linalg.norm(slope)
    optimizer = FZOO([parameter(NoQuantizer())], lr=1.0)
    along = []
    for _ in range(400):
        z = rng.choice([-1.0, 1.0], size=(n, d))
        values = OneSided().finish(torch.from_numpy(z @ slope).float())
        factors = optimizer.direction_factors(values).double().numpy()
        along.append(factors @ z @ slope / length)
    c4 = math.sqrt(2 / (n - 1)) * math.gamma(n / 2) / math.gamma((n - 1) / 2)
    error = np.std(along, ddof=1) / math.sqrt(len(along))
    assert abs(np.mean(along) - (n - 1) / n * c4) < 5 * error
    assert error < 0.02


@pytest.mark.parametrize("values", [[], [3.0], [2.0, 2.0, 2.0]])
def test_without_a_deviation_nothing_moves(values: list[float]) -> None:
    weight = parameter(Int8())
    before = weight.store.codes.clone()
    FZOO([weight], lr=100.0).step(gradient=gradient(values))
    assert torch.equal(weight.store.codes, before)


def test_one_direction_a_step_and_no_rate_are_refused() -> None:
    optimizer, others = FZOO([parameter(Int8())]), (OneSided(), Int8(), CodePerturber())
    with pytest.raises(UserError, match=r"FZOO needs several directions.*got .* with 1; set"):
        optimizer.check(StepParts(1, 1, *others))
    optimizer.check(StepParts(2, 4, *others))
    with pytest.raises(UserError, match=r"FZOO needs an lr, got none.*try 0\.5"):
        optimizer.settle(0.5)
