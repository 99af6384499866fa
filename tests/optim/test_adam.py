"""ZO-Adam against torch's Adam, which has a number for each coordinate."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from one_weight import COLUMNS, ROWS, directions, gradient, parameter

from zolit.errors import UserError
from zolit.noise import Direction
from zolit.optim import ZOAdam
from zolit.strategies import Int8, NoQuantizer

STEPS = 60


def run(optimizer: Any, values: np.ndarray, first: int = 0) -> None:
    for step, value in enumerate(values, start=first):
        optimizer.step(gradient=gradient([float(value)], rounding_key=step, first=step))


def by_torch(start: np.ndarray, gradients: np.ndarray, lr: float) -> np.ndarray:
    theta = torch.from_numpy(start).clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=lr, betas=(0.9, 0.95))
    for one in gradients:
        theta.grad = torch.from_numpy(one)
        optimizer.step()
    return theta.detach().numpy()


def test_with_signs_and_one_direction_it_is_adam() -> None:
    """``g_i**2`` is the same for all coordinates: nothing is left out but old directions."""
    values = np.random.default_rng(4).standard_t(3, size=STEPS).astype(np.float32) * 20
    weight = parameter(NoQuantizer(), direction=Direction("rademacher"))
    start = weight.dense().double().numpy()
    run(ZOAdam([weight], 0.01, beta2=0.95, tolerance=1e-3), values)
    z = directions(STEPS, "rademacher")
    wanted = by_torch(start, values.astype(np.float64)[:, None, None] * z, 0.01)
    error = np.abs(weight.dense().double().numpy() - wanted).max()
    assert error < 2e-3 * np.abs(wanted - start).max()


def test_with_gaussian_directions_the_moment_is_that_of_a_coordinate_on_average() -> None:
    """Mean over coordinates of ``g_i**2`` beside the shared number: |z| < 5, fixed keys."""
    values = np.random.default_rng(5).normal(size=(3, 2)).astype(np.float32)
    optimizer = ZOAdam([parameter(NoQuantizer())], 0.01, beta2=0.5)
    expected = 0.0
    z = directions(values.size).reshape(3, 2, ROWS, COLUMNS)
    squares = np.zeros((ROWS, COLUMNS))
    for step, row in enumerate(values):
        optimizer.step(gradient=gradient(row.tolist(), first=2 * step))
        squares = 0.5 * squares + 0.5 * (np.tensordot(row, z[step], 1) / 2) ** 2
        expected = 0.5 * expected + 0.5 * float(((row / 2) ** 2).sum())
    assert float(optimizer.state["moment"]["second"]) == pytest.approx(expected, rel=1e-6)
    error = squares.std(ddof=1) / np.sqrt(squares.size)
    assert abs(squares.mean() - expected) < 5 * error


def test_it_goes_on_bit_for_bit_from_its_state() -> None:
    values = np.random.default_rng(6).normal(size=12).astype(np.float32)
    weights = [parameter(Int8()) for _ in range(2)]
    one, two = (ZOAdam([weight], 0.7, tolerance=0.3) for weight in weights)
    run(one, values[:7])
    weights[1].store.codes.copy_(weights[0].store.codes)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for optimizer in (one, two):
        run(optimizer, values[7:], first=7)
    assert torch.equal(weights[0].store.codes, weights[1].store.codes)
    assert int(two.state["moment"]["steps"]) == 12


def test_equal_losses_move_nothing() -> None:
    weight = parameter(Int8())
    before = weight.store.codes.clone()
    run(ZOAdam([weight], 100.0, eps=0.0), np.zeros(3))
    assert torch.equal(weight.store.codes, before)


def test_how_far_a_gradient_moves_in_all() -> None:
    """The factors that a report counts add up to those of the steps that follow."""
    optimizer = ZOAdam([parameter(NoQuantizer())], 1.0, beta1=0.5, beta2=0.0, eps=0.0)
    optimizer.step(gradient=gradient([3.0]))
    torch.testing.assert_close(optimizer.direction_factors(torch.tensor([3.0])), torch.ones(1))


@pytest.mark.parametrize(
    "options", [{"beta1": 1.0}, {"beta2": 1.0}, {"eps": -1.0}, {"tolerance": 2.0}]
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    [name] = options
    with pytest.raises(UserError, match=f"{name} must be .*got"):
        ZOAdam([parameter(Int8())], 1.0, **options)


def test_a_rate_is_needed_and_a_checkpoint_of_another_optimizer_refused() -> None:
    optimizer = ZOAdam([parameter(Int8())])
    with pytest.raises(UserError, match="ZOAdam needs an lr"):
        optimizer.settle(0.1)
    content = copy.deepcopy(optimizer.state_dict())
    content["state"]["moment"]["second"] = torch.tensor(float("nan"), dtype=torch.float64)
    with pytest.raises(UserError, match="second moment"):
        optimizer.load_state_dict(content)
