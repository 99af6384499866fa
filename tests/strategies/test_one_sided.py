"""One-sided differences: against losses by hand, and what centering does to bias and noise."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import batch, tiny
from torch import Tensor

from zolit.models.source import ModelSource
from zolit.noise import fold
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import Int8, OneSided, ScalePerturber, TwoPoint
from zolit.training.zero_order import ZeroOrderModule

EPS = 1e-2


def module(estimator: Any, shared: float = 1.0, **options: Any) -> ZeroOrderModule:
    one = ZeroOrderModule(
        ModelSource("none"),
        Int8(),
        ScalePerturber(eps=EPS),
        estimator,
        objective=OptionScoring(shared),
        dtype="float32",
        kernels="reference",
        **options,
    )
    one.adopt(tiny("llama"))
    return one


@torch.no_grad()
def test_it_is_the_difference_from_the_weights_as_stored() -> None:
    one, keys = module(OneSided()), [fold(1, key) for key in range(3)]
    found = one.estimate(batch("llama"), keys)
    rest = one.objective.losses(one.network, batch("llama"))[0]
    torch.testing.assert_close(found.loss, rest)
    for key, value in zip(keys, found.values, strict=True):
        with one.reading.perturbed(key, EPS, copies=1):
            moved = one.objective.losses(one.network, batch("llama"))[0]
        torch.testing.assert_close(value, (moved - rest) / EPS, rtol=1e-3, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("shared", [1.0, 0.2])
def test_it_agrees_with_both_sides_to_first_order(shared: float) -> None:
    keys = [fold(2, key) for key in range(4)]
    one, two = (
        module(estimator, shared).estimate(batch("llama"), keys).values
        for estimator in (OneSided(), TwoPoint())
    )
    assert (one - two).norm() < 0.1 * two.norm()


@torch.no_grad()
def test_one_read_for_each_direction_and_one_for_all() -> None:
    one = module(OneSided())
    passes: list[int] = []
    one.network.register_forward_hook(lambda *_: passes.append(1))
    one.estimate(batch("llama"), [fold(3, key) for key in range(5)])
    assert len(passes) == 6


def test_centering_leaves_few_directions_alone() -> None:
    for values in (torch.empty(0), torch.tensor([2.5])):
        assert torch.equal(OneSided().finish(values), values)
    values = torch.tensor([1.0, 2.0, 6.0])
    assert torch.equal(OneSided(centered=False).finish(values), values)
    torch.testing.assert_close(OneSided().finish(values), torch.tensor([-3.0, -1.5, 4.5]))


def steps(centered: bool, common: float) -> tuple[np.ndarray, Tensor]:
    """Estimates of the gradient of a linear loss whose differences all err by ``common``."""
    generator = torch.Generator().manual_seed(0)
    gradient = torch.tensor([1.0, -2.0, 0.5, 3.0])
    found = []
    for _ in range(4000):
        signs = torch.randint(2, (6, 4), generator=generator) * 2.0 - 1
        values = OneSided(centered).finish(signs @ gradient + common)
        found.append(values @ signs / len(signs))
    return torch.stack(found).double().numpy(), gradient


@pytest.mark.parametrize("common", [0.0, 20.0])
def test_the_centered_estimate_is_unbiased(common: float) -> None:
    """Each coordinate within 5 standard errors (6e-7), over 4000 steps of six directions."""
    found, gradient = steps(True, common)
    error = found.std(0, ddof=1) / math.sqrt(len(found))
    assert np.all(np.abs(found.mean(0) - gradient.numpy()) < 5 * error)


def test_centering_takes_the_common_error_out() -> None:
    noise = {
        (centered, common): steps(centered, common)[0].var(0).sum()
        for centered in (True, False)
        for common in (0.0, 20.0)
    }
    assert noise[True, 20.0] == pytest.approx(noise[True, 0.0], rel=1e-3)
    # 20 times the mean of six signs has the variance 400 / 6 in each of four coordinates.
    added = noise[False, 20.0] - noise[False, 0.0]
    assert added == pytest.approx(4 * 400 / 6, rel=0.05)
    # Its price: Q / (Q - 1) = 6 / 5 with many coordinates, 6 / 5 + 2 / (3 (Q - 1)) with four.
    assert noise[True, 0.0] == pytest.approx(4 / 3 * noise[False, 0.0], rel=0.05)
