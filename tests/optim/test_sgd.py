"""Optimizers against float64 arithmetic on numpy's noise."""

import copy
import math

import numpy as np
import numpy_noise
import pytest
import torch
from one_weight import COLUMNS, ROWS, directions, gradient, parameter

from zolit.coordinates import OutputScales
from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.noise import Direction, signed
from zolit.optim import ZOSGD, ZOSignSGD
from zolit.strategies import Int8, NoQuantizer


def test_zo_sgd_on_a_quadratic_equals_the_closed_form() -> None:
    """MeZO in float32: theta <- theta - lr * (g(theta) . z) * z, in float64 with numpy's z."""
    weight = parameter(NoQuantizer())
    target = np.random.default_rng(0).normal(size=(ROWS, COLUMNS))
    goal = torch.from_numpy(target)
    optimizer = ZOSGD([weight], lr=1e-3)
    theta = weight.dense().double().numpy()
    eps = 1e-2
    for step in range(20):
        key = (1 << 63) + 13 * step
        losses = []
        for sign in (1, -1):
            with weight.reading.perturbed(key, sign * eps, 1):
                losses.append(0.5 * ((weight.double() - goal) ** 2).sum())
        value = ((losses[0] - losses[1]) / (2 * eps)).float().view(1)
        optimizer.step(gradient=ProjectedGradient(torch.tensor([signed(key)]), value, step))
        z = numpy_noise.direction(ROWS, COLUMNS, key, 2)
        theta = theta - 1e-3 * ((theta - target) * z).sum() * z
    start = parameter(NoQuantizer()).dense().double().numpy()
    assert np.abs(theta - start).max() > 0.05
    np.testing.assert_allclose(weight.dense().numpy(), theta, atol=2e-5)


def test_queries_are_averaged() -> None:
    weight = parameter(NoQuantizer())
    start = weight.dense().double().numpy()
    values = [3.0, -1.0, 0.5]
    ZOSGD([weight], lr=0.01).step(gradient=gradient(values))
    mean = np.tensordot(values, directions(3), 1) / 3
    np.testing.assert_allclose(weight.dense().numpy(), start - 0.01 * mean, atol=1e-6)


def test_sign_sgd_drops_the_size() -> None:
    weight = parameter(NoQuantizer())
    start = weight.dense().double().numpy()
    ZOSignSGD([weight], lr=0.01).step(gradient=gradient([300.0, -1e-9]))
    mean = np.tensordot([1.0, -1.0], directions(2), 1) / 2
    np.testing.assert_allclose(weight.dense().numpy(), start - 0.01 * mean, atol=1e-6)


def test_scales_move_by_a_factor_and_stay_positive() -> None:
    weight = parameter(Int8(), OutputScales())
    scale, codes = weight.store.scale.clone(), weight.store.codes.clone()
    z = numpy_noise.direction(1, 32, 1 << 63, 2)[0, :ROWS]
    ZOSGD([weight], lr=0.1).step(gradient=gradient([1.0]))
    expected = scale.numpy()[:, 0] * (1 - 0.1 * z)
    np.testing.assert_allclose(weight.store.scale.numpy()[:, 0], expected, rtol=1e-5)
    assert torch.equal(weight.store.codes, codes)
    ZOSGD([weight], lr=1e4).step(gradient=gradient([1.0, -1.0]))
    assert weight.store.scale.min() >= 1e-8
    assert weight.store.scale.isfinite().all()


def test_an_empty_estimate_moves_nothing_and_a_closure_is_called() -> None:
    weight = parameter(Int8())
    before = weight.store.codes.clone()
    optimizer = ZOSGD([weight], lr=1.0)
    assert optimizer.step(lambda: 5, gradient=gradient([])) == 5
    assert optimizer.step(lambda: 6) == 6
    assert torch.equal(weight.store.codes, before)


def test_steps_below_half_a_code_add_up_with_error_feedback() -> None:
    """50 equal steps of 0.1 codes: 5 codes but for the last remainder."""
    weight = parameter(Int8(), direction=Direction("rademacher"))
    weight.store.codes.clamp_(-100, 100)
    before = weight.store.codes.int()
    optimizer = ZOSGD([weight], lr=0.1, error_feedback=True, feedback_decay=1.0)
    for step in range(50):
        optimizer.step(gradient=gradient([1.0], rounding_key=step))
    moved = (weight.store.codes.int() - before).double().numpy()
    z = numpy_noise.direction(ROWS, COLUMNS, 1 << 63, 2, distribution="rademacher")
    residual = optimizer.state[weight]["residual"].double().numpy()
    assert np.abs(residual).max() <= 1.0
    np.testing.assert_allclose(moved + residual, -5.0 * z, atol=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_error_feedback_resumes_bit_for_bit(dtype: torch.dtype) -> None:
    weights = [parameter(Int8(), dtype=dtype) for _ in range(2)]
    optimizers = [ZOSGD([weight], lr=0.3, error_feedback=True) for weight in weights]
    for step in range(3):
        optimizers[0].step(gradient=gradient([1.0], rounding_key=step))
    weights[1].store.codes.copy_(weights[0].store.codes)
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    residuals = [o.state[w]["residual"] for o, w in zip(optimizers, weights, strict=True)]
    assert residuals[0].dtype == residuals[1].dtype == torch.float16
    assert torch.equal(*residuals)
    for optimizer in optimizers:
        optimizer.step(gradient=gradient([-2.0], rounding_key=9))
    assert torch.equal(weights[0].store.codes, weights[1].store.codes)


@pytest.mark.parametrize("lr", [0.0, -1.0, math.nan, math.inf])
def test_learning_rates_out_of_range(lr: float) -> None:
    with pytest.raises(UserError, match=f"lr must be a positive number, got {lr}"):
        ZOSGD([parameter(Int8())], lr=lr)


@pytest.mark.parametrize("decay", [0.0, 1.5, math.nan])
def test_decays_out_of_range(decay: float) -> None:
    with pytest.raises(UserError, match="feedback_decay"):
        ZOSGD([parameter(Int8())], lr=1.0, feedback_decay=decay)
