"""Momentum of remembered keys against torch's buffer, in float64 on numpy's noise."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from one_weight import COLUMNS, ROWS, directions, gradient, parameter

from zolit.errors import UserError
from zolit.noise import Direction
from zolit.optim import ZOSGD, ZOMomentum
from zolit.optim.past import remembered
from zolit.strategies import Int8, NoQuantizer

STEPS, QUERIES = 30, 2


def by_torch(start: np.ndarray, values: np.ndarray, lr: float, momentum: float) -> np.ndarray:
    """The same steps by torch.optim.SGD, which keeps a buffer."""
    theta = torch.from_numpy(start).clone().requires_grad_()
    optimizer = torch.optim.SGD([theta], lr=lr, momentum=momentum)
    z = directions(values.size).reshape(STEPS, QUERIES, ROWS, COLUMNS)
    for step, row in enumerate(values):
        theta.grad = torch.from_numpy(np.tensordot(row, z[step], 1) / QUERIES)
        optimizer.step()
    return theta.detach().numpy()


def run(weight: Any, optimizer: Any, values: np.ndarray, first: int = 0) -> None:
    for step, row in enumerate(values, start=first):
        found = gradient(row.tolist(), rounding_key=step, first=step * QUERIES)
        optimizer.step(gradient=found)


@pytest.mark.parametrize(("momentum", "tolerance"), [(0.9, 1e-3), (0.5, 1e-6), (0.0, 0.5)])
def test_it_equals_a_buffer_but_for_the_tolerance(momentum: float, tolerance: float) -> None:
    values = np.random.default_rng(1).normal(size=(STEPS, QUERIES)).astype(np.float32)
    weight = parameter(NoQuantizer())
    start = weight.dense().double().numpy()
    run(weight, ZOMomentum([weight], 0.01, momentum, tolerance), values)
    wanted = by_torch(start, values.astype(np.float64), 0.01, momentum)
    error = np.linalg.norm(weight.dense().double().numpy() - wanted)
    assert error < tolerance * np.linalg.norm(wanted - start) + 1e-5


def test_what_is_left_out_weighs_less_than_the_tolerance() -> None:
    for decay in (0.3, 0.9, 0.99):
        for tolerance in (0.1, 1e-3):
            steps = remembered(decay, tolerance)
            assert decay**steps <= tolerance < decay ** (steps - 1)


def test_without_momentum_it_is_zo_sgd_bit_for_bit() -> None:
    values = np.random.default_rng(2).normal(size=(6, QUERIES)).astype(np.float32)
    weights = [parameter(Int8(), direction=Direction("rademacher")) for _ in range(2)]
    run(weights[0], ZOMomentum([weights[0]], 3.0, momentum=0.0), values)
    run(weights[1], ZOSGD([weights[1]], 3.0), values)
    assert torch.equal(weights[0].store.codes, weights[1].store.codes)


@pytest.mark.parametrize("feedback", [False, True])
def test_it_goes_on_bit_for_bit_from_its_state(feedback: bool) -> None:
    values = np.random.default_rng(3).normal(size=(9, QUERIES)).astype(np.float32)
    weights = [parameter(Int8()) for _ in range(2)]
    options = {"momentum": 0.8, "tolerance": 0.3, "error_feedback": feedback}
    one, two = (ZOMomentum([weight], 0.7, **options) for weight in weights)
    run(weights[0], one, values[:5])
    weights[1].store.codes.copy_(weights[0].store.codes)
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for weight, optimizer in zip(weights, (one, two), strict=True):
        run(weight, optimizer, values[5:], first=5)
    assert torch.equal(weights[0].store.codes, weights[1].store.codes)
    assert len(one.state["past"]["keys"]) == one.most_directions(QUERIES) == 6 * QUERIES


def test_a_step_without_an_estimate_moves_nothing_and_forgets_nothing() -> None:
    weight = parameter(NoQuantizer())
    optimizer = ZOMomentum([weight], 0.1)
    optimizer.step(gradient=gradient([1.0]))
    before, past = weight.dense().clone(), optimizer.state["past"]
    optimizer.step(gradient=gradient([]))
    assert torch.equal(weight.dense(), before)
    assert optimizer.state["past"] is past


def test_the_default_rate_moves_as_far_in_the_end() -> None:
    optimizer = ZOMomentum([parameter(NoQuantizer())], momentum=0.75)
    assert optimizer.settle(0.2)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.05)
    values = torch.tensor([1.0, -3.0])
    whole = 0.05 * optimizer.direction_factors(values)
    torch.testing.assert_close(
        whole, 0.2 * ZOSGD([torch.zeros(1)], lr=0.2).direction_factors(values)
    )


@pytest.mark.parametrize(
    "options", [{"momentum": 1.0}, {"momentum": -0.1}, {"tolerance": 0.0}, {"tolerance": 1.0}]
)
def test_options_out_of_range(options: dict[str, float]) -> None:
    [name] = options
    with pytest.raises(UserError, match=f"{name} must be in .*got"):
        ZOMomentum([parameter(Int8())], 1.0, **options)


@pytest.mark.parametrize("damage", ["missing", "short", "dtype"])
def test_a_checkpoint_without_its_past_is_refused(damage: str) -> None:
    optimizer = ZOMomentum([parameter(Int8())], 1.0)
    optimizer.step(gradient=gradient([1.0]))
    content = copy.deepcopy(optimizer.state_dict())
    if damage == "missing":
        del content["state"]["past"]
    elif damage == "short":
        content["state"]["past"]["factors"] = torch.zeros(0)
    else:
        content["state"]["past"]["keys"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"ckpt_path: .* earlier directions"):
        optimizer.load_state_dict(content)
