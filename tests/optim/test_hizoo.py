"""HiZOO (arXiv 2402.15173, Algorithm 1) beside numpy in float64; its estimate of a Hessian."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
import numpy_noise
from tiny_runs import module

from zolit.coordinates import Elements
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.dense import DenseWeight
from zolit.gradient import ProjectedGradient
from zolit.noise import Direction, control_table, fold
from zolit.objectives.loss_function import LossFunction
from zolit.optim import ZOSGD, HiZOO
from zolit.strategies import (
    CodePerturber,
    DensePerturber,
    Int8,
    Losses,
    LowRankPerturber,
    NoQuantizer,
    ScalePerturber,
    SecondDifference,
    SparsePerturber,
)
from zolit.supports import ALL, Support
from zolit.tensors import curvature
from zolit.tensors.reading import Reading
from zolit.tensors.site import Site
from zolit.tensors.weight import PerturbedWeight

GAUSSIAN = Direction()
ROWS, COLUMNS, EPS, LR, SMOOTH = 4, 64, 0.05, 0.02, 0.1


def floats(seed: int, rows: int = ROWS, columns: int = COLUMNS) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def weight_of(
    store: StoredWeight, direction: Direction = GAUSSIAN, support: Support = ALL
) -> nn.Parameter:
    site, reading = Site(0, Elements((0.0, 1.0)), support), Reading(direction, "reference")
    shape = torch.Size((store.rows, store.columns))
    one = PerturbedWeight(store, site, reading, "w", shape, torch.float32)
    return nn.Parameter(one, requires_grad=False)


class Bowl(nn.Module):
    """``sum(h * (W - target)**2) / 2`` of its weight in float64: h is the Hessian's diagonal."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.h, self.target = floats(7).double().exp() / 128, floats(8).double()

    def loss(self) -> Tensor:
        rest: Any = self.weight
        return (self.h * (rest.dense().double() - self.target) ** 2).sum() / 2


def losses(model: Bowl) -> Losses:
    def loss(model: Any, batch: Tensor) -> Tensor:
        return model.loss().expand(len(batch))

    return Losses(LossFunction(loss), model, torch.zeros(1, 1))


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("queries", [1, 3])
def test_steps_are_algorithm_1_of_the_paper(queries: int, unbiased: bool) -> None:
    """Three losses, S by the mean over queries, and a step along the new z / sqrt(S)."""
    weight = weight_of(DenseWeight(floats(0)))
    model, optimizer = Bowl(weight), HiZOO([weight], LR, SMOOTH, unbiased)
    h, target = model.h.numpy(), model.target.numpy()
    theta, s = floats(0).double().numpy().copy(), np.ones((ROWS, COLUMNS))

    def loss(at: np.ndarray) -> float:
        return float((h * (at - target) ** 2).sum() / 2)

    for step in range(6):
        keys = [fold(5, step, query) for query in range(queries)]
        directions = [numpy_noise.direction(ROWS, COLUMNS, key, 0) for key in keys]
        slopes, mean = [], np.zeros_like(s)
        for z in directions:
            move = EPS * z / np.sqrt(s)
            plus, minus, rest = loss(theta + move), loss(theta - move), loss(theta)
            slopes.append((plus - minus) / (2 * EPS))
            half = (plus + minus - 2 * rest) / (2 * EPS**2)
            mean += half * s * (z**2 - unbiased) / queries
        s = (1 - SMOOTH) * s + SMOOTH * np.abs(mean)
        for z, slope in zip(directions, slopes, strict=True):
            theta -= LR / queries * slope * z / np.sqrt(s)

        found = SecondDifference().estimate(losses(model), weight.reading, keys, EPS, False)
        named = torch.tensor([key - (1 << 64) * (key >> 63) for key in keys * 2])
        optimizer.step(gradient=ProjectedGradient(named, found.values, step))
    kept = optimizer.state[weight]["curvature"]
    assert kept.min() < 0.9
    assert kept.max() > 1.5
    np.testing.assert_allclose(kept.numpy(), s, rtol=2e-3)
    np.testing.assert_allclose(weight.store.weight.numpy(), theta, atol=2e-4)


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_the_mean_of_the_estimate_is_the_hessian(shift: float) -> None:
    """With z**2 - 1 it is the diagonal; with z**2 it is this plus S tr(H / S) / 2.

    A z-test for each of 32 coordinates over 1500 directions, |z| < 5 (6e-7 each), fixed seed.
    """
    count, s = 1500, floats(3, 1, 32).exp()
    h = floats(7, 1, 32).double().exp().numpy()
    site, reading = Site(0, Elements((0.0, 1.0))), Reading(Direction(), "reference")
    keys = [fold(9, n) for n in range(count)]
    z = np.stack([numpy_noise.direction(1, 32, key, 0) for key in keys])[:, 0]
    scale = s.double().numpy()
    halves = (h * z**2 / scale).sum(1) / 2  # of a quadratic, exactly
    controls = list(torch.stack([control_table(key, [0])[0] for key in keys]))
    smooth, kept = 0.5, s.clone()
    curvature.follow(kept, site, reading, controls, halves.tolist(), smooth, shift)
    mean = (kept.double().numpy() / scale - (1 - smooth)) / smooth * scale
    each = halves[:, None] * scale * (z**2 - shift)
    wanted = h + (1 - shift) * scale * (h / scale).sum() / 2
    deviation = each.std(0) / math.sqrt(count)
    assert (np.abs(mean - wanted) < 5 * deviation + 1e-4 * np.abs(wanted)).all()


def test_where_the_estimate_comes_to_rest() -> None:
    """Algorithm 1 rests where each S is (1 + d / 2) times the curvature of its coordinate.

    Then ``E[c S z**2] = H + S tr(H / S) / 2`` is S, for d coordinates. So what curves a hundred
    times as much has a hundred times the S, whatever S was at first. Means of log S over 2000
    steps, whose deviation is 0.09 (of 400 runs with numpy's normal numbers); bounds of five times.
    """
    h, smooth, logs = np.array([100.0, 1.0]), 0.01, []
    site, reading = Site(0, Elements((0.0, 1.0))), Reading(Direction(), "reference")
    kept = curvature.start((1, 2), torch.device("cpu"))
    for step in range(2500):
        key = fold(11, step)
        z = numpy_noise.direction(1, 32, key, 0)[0, :2]
        half = float((h * z**2 / kept[0, :2].double().numpy()).sum() / 2)
        control = [control_table(key, [0])[0]]
        curvature.follow(kept, site, reading, control, [half], smooth, 0.0)
        logs.append(kept[0, :2].log().double().numpy())
    found = np.mean(logs[500:], axis=0)
    assert np.abs(found - np.log(2 * h)).max() < 0.45


def test_a_checkpoint_restores_the_scale_of_reads() -> None:
    weight = weight_of(DenseWeight(floats(0)))
    optimizer = HiZOO([weight], LR, SMOOTH)
    gradient = ProjectedGradient(torch.tensor([4, 4]), torch.tensor([0.3, 2.0]), 1)
    optimizer.step(gradient=gradient)
    kept = optimizer.state_dict()
    other = weight_of(DenseWeight(weight.store.weight.clone()))
    fresh = HiZOO([other], LR, SMOOTH)
    with weight.reading.perturbed(6, EPS, 1):
        read = weight.dense()
    with other.reading.perturbed(6, EPS, 1):
        assert not torch.equal(other.dense(), read)
    fresh.load_state_dict(kept)
    with other.reading.perturbed(6, EPS, 1):
        assert torch.equal(other.dense(), read)
    kept["state"][0].pop("curvature")
    with pytest.raises(UserError, match="lacks HiZOO's curvature of w"):
        fresh.load_state_dict(kept)


def test_what_learns_nothing_is_refused() -> None:
    for smooth in (0.0, 1.0, float("nan")):
        with pytest.raises(UserError, match=r"smooth must be in \(0, 1\), got"):
            HiZOO([torch.zeros(1)], 0.1, smooth)
    for perturber, said in (
        (LowRankPerturber(), "directions of low rank do not have, got perturber LowRankPerturber"),
        (DensePerturber(distribution="rademacher"), "distribution=rademacher, which moves all"),
    ):
        with pytest.raises(UserError, match=said):
            module(quantizer=NoQuantizer(), perturber=perturber, estimator=SecondDifference())
    with pytest.raises(UserError, match="got quantizer Int8 with activations=int8"):
        module(
            quantizer=Int8(activations="int8"),
            perturber=CodePerturber(eps=1.4),
            estimator=SecondDifference(),
        )
    one = module(estimator=SecondDifference(), optimizer=lambda params: ZOSGD(params, 1.0))
    said = "ZOSGD takes slopes, got estimator SecondDifference, which gives slopes and curvatures"
    with pytest.raises(UserError, match=said):
        one.configure_optimizers()
    other = module(optimizer=lambda params: HiZOO(params, 1.0))
    with pytest.raises(UserError, match="HiZOO takes slopes and curvatures, got estimator TwoP"):
        other.configure_optimizers()
    coarse = weight_of(DenseWeight(floats(0)), Direction("rademacher"))
    with pytest.raises(UserError, match="scales each coordinate of a Gaussian direction"):
        HiZOO([coarse], LR)


@pytest.mark.parametrize(
    "perturber",
    [CodePerturber(), ScalePerturber(), ScalePerturber(granularity="group")],
    ids=["codes", "scales of rows", "scales of groups"],
)
def test_every_kind_of_coordinates_is_scaled_alike(perturber: Any) -> None:
    """A curvature of 16 everywhere is a quarter of the step, in reads and in updates."""
    one, plain = (module(perturber=perturber) for _ in range(2))
    weights = [w for w in one.weights if w.site is not None]
    for weight in weights:
        shape = weight.site.coordinates.shape(weight.store)
        kept = curvature.start(shape, weight.store.device) * 16
        one.reading.curvatures[weight.site.index] = kept
    first, second = weights[0], plain.weights[0]
    with (
        one.reading.perturbed(3, 4 * perturber.eps, 1),
        plain.reading.perturbed(3, perturber.eps, 1),
    ):
        assert torch.allclose(first.dense(), second.dense(), rtol=1e-6, atol=1e-8)
        assert not torch.equal(first.dense(), first.store.decoded(slice(0, first.store.rows)))
    gradient = ProjectedGradient(torch.tensor([4, 5]), torch.tensor([4.0, -8.0]), 1)
    smaller = ProjectedGradient(torch.tensor([4, 5]), torch.tensor([1.0, -2.0]), 1)
    lr = 0.1 if isinstance(perturber, CodePerturber) else 1e-3
    ZOSGD(one.weights, lr).step(gradient=gradient)
    ZOSGD(plain.weights, lr).step(gradient=smaller)
    for mine, theirs in zip(one.weights, plain.weights, strict=True):
        for name, tensor in mine.store.tensors().items():
            torch.testing.assert_close(tensor, theirs.store.tensors()[name], rtol=1e-6, atol=0)


def test_entries_are_scaled_too() -> None:
    parts = {"perturber": SparsePerturber(eps=0.1), "recipe": "overlay"}
    one, plain = (module(**parts) for _ in range(2))
    for weight in one.weights:
        shape = weight.site.coordinates.shape(weight.store)
        one.reading.curvatures[weight.site.index] = curvature.start(shape, torch.device("cpu")) * 4
    first, second = one.weights[0], plain.weights[0]
    with one.reading.perturbed(3, 0.2, 1), plain.reading.perturbed(3, 0.1, 1):
        assert torch.allclose(first.dense(), second.dense(), rtol=1e-6, atol=1e-8)
    gradient = ProjectedGradient(torch.tensor([4]), torch.tensor([2.0]), 1)
    smaller = ProjectedGradient(torch.tensor([4]), torch.tensor([1.0]), 1)
    ZOSGD(one.weights, 0.1).step(gradient=gradient)
    ZOSGD(plain.weights, 0.1).step(gradient=smaller)
    torch.testing.assert_close(first.store.values, second.store.values, rtol=1e-6, atol=0)


@pytest.mark.slow
@pytest.mark.parametrize("perturber", [CodePerturber(), ScalePerturber(), DensePerturber()])
def test_compiled_kernels_scale_as_the_reference_does(perturber: Any) -> None:
    """Reads, the curvature that follows, and the step, from the same slopes."""
    parts: dict[str, Any] = {"perturber": perturber, "estimator": SecondDifference()}
    if isinstance(perturber, DensePerturber):
        parts["quantizer"] = NoQuantizer()
    lr = 10.0 if isinstance(perturber, CodePerturber) else 0.01
    made = []
    for kernels in ("reference", "compiled"):
        one = module(
            kernels=kernels,
            optimizer=lambda params: HiZOO(params, lr, smooth=0.1),
            **parts,
        )
        optimizer: Any = one.configure_optimizers()
        for step in range(2):
            keys = torch.tensor([3 + step, 5, 3 + step, 5])
            values = torch.tensor([0.2, -0.1, 3.0, 0.5])
            optimizer.step(gradient=ProjectedGradient(keys, values, step))
        with one.reading.perturbed(9, perturber.eps, 1):
            reads = [weight.dense() for weight in one.weights]
        kept = [optimizer.state[weight]["curvature"] for weight in one.weights]
        made.append((reads, kept, [w.store.tensors() for w in one.weights]))
    for mine, theirs in zip(made[0][0], made[1][0], strict=True):
        # A code may be rounded to its neighbour where a step differs in its last digit.
        assert ((mine - theirs).abs() > 1e-4).float().mean() < 2e-3
    for mine, theirs in zip(made[0][1], made[1][1], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
