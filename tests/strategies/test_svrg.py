"""SVRG's slopes on a quadratic in float64, the anchor that is read and put back, and refusals."""

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import numpy_noise
import pytest
import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.models.source import ModelSource
from zolit.noise import signed
from zolit.objectives.base import Objective
from zolit.optim import FZOO, ZOSGD
from zolit.optim.base import StepParts
from zolit.strategies import (
    SVRG,
    DensePerturber,
    Estimate,
    Int8,
    NoQuantizer,
    OneSided,
    ScalePerturber,
)
from zolit.training.zero_order import ZeroOrderModule

ROWS, COLUMNS = 3, 64
OWN, AT_ANCHOR = [5, 6], [11, 12, 13]


class Squares(Objective):
    """Mean over the batch of ``|W x - y|^2 / 2``."""

    def losses(self, model: nn.Module, batch: tuple[Tensor, Tensor], copies: int = 1) -> Tensor:
        x, y = (part.repeat(copies, 1) for part in batch)
        return ((model(x) - y).double() ** 2).view(copies, -1).mean(1) * ROWS / 2


def batch(seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(-1, 2, (8, COLUMNS), generator=generator).float()
    return x, torch.randn(8, ROWS, generator=generator)


def quadratic(quantizer: Any = None, perturber: Any = None, **options: Any) -> ZeroOrderModule:
    layer = nn.Linear(COLUMNS, ROWS, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(2)))
    one = ZeroOrderModule(
        ModelSource("unused"),
        quantizer or NoQuantizer(),
        perturber or DensePerturber(eps=1e-2),
        SVRG(**options),
        objective=Squares(),
        dtype="float32",
        kernels="reference",
    )
    one.adopt(nn.Sequential(layer))
    return one


def slope(weight: np.ndarray, rows: tuple[Tensor, Tensor], key: int) -> float:
    x, y = (part.double().numpy() for part in rows)
    z = numpy_noise.direction(ROWS, COLUMNS, key, 0)
    return float((((x @ weight.T - y).T @ x / len(x)) * z).sum())


def step(one: ZeroOrderModule, keys: list[int], rows: Any, lr: float = 0.01) -> Tensor:
    """A step as the module and a replay make it; returns the values before `finish`."""
    estimator: Any = one.estimator
    keys = estimator.directions(keys)
    with torch.no_grad():
        values = estimator.combine([one.estimate(part, keys) for part in rows])
        gradient = ProjectedGradient(
            torch.tensor([signed(key) for key in keys]), estimator.finish(values), 3
        )
        estimator.before_step(gradient, one.weights)
        ZOSGD(one.weights, lr=lr).step(gradient=gradient)
    return values


def matrix(one: ZeroOrderModule) -> np.ndarray:
    return one.weights[0].dense().double().numpy()


def test_a_step_is_the_difference_from_the_anchor_and_the_anchors_slopes() -> None:
    one = quadratic(anchor_rate=2.0)
    anchor = matrix(one)
    parts = [batch(1), batch(2)]
    found = step(one, AT_ANCHOR, parts)
    kept = [np.mean([slope(anchor, rows, key) for rows in parts]) for key in AT_ANCHOR]
    np.testing.assert_allclose(found.numpy(), kept, rtol=1e-3)
    z = [numpy_noise.direction(ROWS, COLUMNS, key, 0) for key in AT_ANCHOR]
    moved = anchor - 0.01 * 2.0 * np.tensordot(kept, z, 1) / len(z)
    np.testing.assert_allclose(matrix(one), moved, atol=1e-4)

    here, rows = matrix(one), batch(4)
    assert one.estimator.directions(OWN) == OWN + AT_ANCHOR
    step(one, OWN, [rows])
    own = [slope(here, rows, key) - slope(anchor, rows, key) for key in OWN]
    z_own = [numpy_noise.direction(ROWS, COLUMNS, key, 0) for key in OWN]
    wanted = np.tensordot(own, z_own, 1) / len(own) + np.tensordot(kept, z, 1) / len(kept)
    np.testing.assert_allclose(matrix(one), here - 0.01 * wanted, atol=1e-4)


def test_near_the_anchor_the_noise_of_the_batch_is_gone() -> None:
    """Slopes along one direction, of 30 batches: their spread less the anchor's, and plain."""
    one = quadratic(every=100)
    step(one, AT_ANCHOR, [batch(1)], lr=1e-4)
    plain, less = [], []
    for seed in range(30):
        rows = batch(100 + seed)
        values = one.estimate(rows, one.estimator.directions([7])).values
        less.append(float(values[0]))
        plain.append(slope(matrix(one), rows, 7))
    assert np.std(less) < 0.02 * np.std(plain)


class Interrupting(Squares):
    """Ends the third read, which is the first at the anchor."""

    def __init__(self, one: ZeroOrderModule) -> None:
        self.one, self.reads = one, 0

    def losses(self, *args: Any, **kwargs: Any) -> Tensor:
        self.reads += 1
        if self.reads > len(OWN):
            read = next(iter(moved_tensors(self.one).values()))
            assert not any(torch.equal(read, kept) for kept in self.one.estimator.tensors())
            raise KeyboardInterrupt
        return super().losses(*args, **kwargs)


def moved_tensors(one: ZeroOrderModule) -> dict[str, Tensor]:
    [weight] = one.weights
    return weight.site.coordinates.moved_tensors(weight.store)


@pytest.mark.parametrize("quantizer", [NoQuantizer(), Int8()], ids=["floats", "scales"])
@pytest.mark.parametrize("interrupted", [False, True])
def test_weights_and_anchor_are_put_back(quantizer: Any, interrupted: bool) -> None:
    perturber = None if isinstance(quantizer, NoQuantizer) else ScalePerturber()
    one = quadratic(quantizer, perturber)
    step(one, AT_ANCHOR, [batch(1)])
    assert [t.nbytes for t in one.estimator.tensors()] == [
        tensor.nbytes for tensor in moved_tensors(one).values()
    ]
    before = [tensor.clone() for tensor in one.weights[0].store.tensors().values()]
    kept = [tensor.clone() for tensor in one.estimator.tensors()]
    if interrupted:
        one.objective = Interrupting(one)
    with pytest.raises(KeyboardInterrupt) if interrupted else nullcontext():
        one.estimate(batch(3), one.estimator.directions(OWN))
    after = list(one.weights[0].store.tensors().values())
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert all(torch.equal(*pair) for pair in zip(kept, one.estimator.tensors(), strict=True))


def test_when_there_is_an_anchor() -> None:
    one = quadratic(every=3, batches=8)
    estimator: Any = one.estimator
    wanted = []
    for number in range(7):
        wanted.append(estimator.batches(2))
        step(one, [100 + number], [batch(number)])
    assert wanted == [8, 2, 2, 8, 2, 2, 8]
    assert estimator.keys == [106]
    assert estimator.batches(16) == 16


def test_losses_of_nan() -> None:
    estimator = SVRG(every=3)
    nothing = ProjectedGradient(torch.tensor([], dtype=torch.int64), torch.tensor([]), 0)
    estimator.before_step(nothing, [])
    assert estimator.since == 0, "the next step tries an anchor again"
    estimator.since, estimator.keys, estimator.slopes = 1, [8], [3.0]
    nan = float("nan")
    some = estimator.combine([Estimate(torch.tensor([nan, 2.0, 3.0]), torch.tensor(0.0))])
    assert some[0].isnan()
    assert some[1:].tolist() == [4.0, 6.0], "one difference and the anchor: each is its own mean"
    none = estimator.combine([Estimate(torch.tensor([nan, nan, 3.0]), torch.tensor(0.0))])
    assert none.isnan().all()


def test_its_state_is_restored_or_refused() -> None:
    one, two = quadratic(), quadratic()
    step(one, AT_ANCHOR, [batch(1)])
    state = one.estimator.state_dict()
    two.estimator.load_state_dict(state)
    for name, tensor in moved_tensors(two).items():
        tensor.copy_(moved_tensors(one)[name])
    for each in (one, two):
        step(each, OWN, [batch(5)])
    assert np.array_equal(matrix(one), matrix(two))
    for change in ({"since": -1}, {"keys": [1]}, {"anchor": {"a": 3}}, {"slopes": None}):
        with pytest.raises(UserError, match="anchor of SVRG"):
            SVRG().load_state_dict({**state, **change})
    other = {**state, "anchor": {name: one[:1] for name, one in state["anchor"].items()}}
    two.estimator.load_state_dict({**other, "since": 1})
    with pytest.raises(UserError, match="of another model"):
        two.estimate(batch(1), two.estimator.directions(OWN))


@pytest.mark.parametrize("options", [{"every": 1}, {"batches": 0}, {"anchor_rate": 0.0}])
def test_options_out_of_range(options: dict) -> None:
    [name] = options
    with pytest.raises(UserError, match=f"{name} must be .*got"):
        SVRG(**options)


def test_a_length_from_the_spread_of_slopes_is_refused() -> None:
    parts = StepParts(8, 1, SVRG(), Int8(), ScalePerturber())
    FZOO([torch.zeros(1)], lr=0.1).check(replace(parts, estimator=OneSided()))
    with pytest.raises(UserError, match=r"FZOO .*got estimator SVRG.*use OneSided"):
        FZOO([torch.zeros(1)], lr=0.1).check(parts)
