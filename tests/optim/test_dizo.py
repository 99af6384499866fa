"""DiZO (arXiv 2502.03304) beside numpy in float64; where it stretches what, and what it refuses."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.testing as npt
import pytest
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
import numpy_noise
from tiny_models import batch
from tiny_runs import module

from zolit.coordinates import Elements
from zolit.errors import UserError
from zolit.formats.dense import DenseWeight
from zolit.gradient import ProjectedGradient
from zolit.noise import Direction, fold, signed
from zolit.objectives.loss_function import LossFunction
from zolit.optim import ZOSGD, DiZO
from zolit.strategies import (
    CodePerturber,
    Int4,
    Int8,
    LayerLengths,
    Losses,
    ScalePerturber,
    SparsePerturber,
)
from zolit.tensors.reading import Reading
from zolit.tensors.site import Site
from zolit.tensors.weight import PerturbedWeight

ROWS, COLUMNS, EPS, LR = 4, 64, 1e-3, 0.02
LAYERS = ("q_proj", "k_proj", "v_proj")


def floats(seed: int) -> Tensor:
    return torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(seed))


class Bowls(nn.Module):
    """Three weights, and the sum of their squared distances from as many targets, weighted."""

    def __init__(self) -> None:
        super().__init__()
        reading, shape = Reading(Direction(), "reference"), torch.Size((ROWS, COLUMNS))
        self.reading = reading
        for index, name in enumerate(LAYERS):
            site, store = Site(index, Elements((0.0, 1.0))), DenseWeight(floats(index))
            weight = PerturbedWeight(store, site, reading, name, shape, torch.float32)
            self.register_parameter(name, nn.Parameter(weight, requires_grad=False))
        self.targets = [floats(10 + index).double() for index in range(3)]

    def loss(self) -> Tensor:
        weights: list[Any] = list(self.parameters())
        apart = [
            (1 + index) * ((one.dense().double() - target) ** 2).sum()
            for index, (one, target) in enumerate(zip(weights, self.targets, strict=True))
        ]
        return torch.stack(apart).sum() / 100


def losses(model: Bowls) -> Losses:
    def loss(model: Any, batch: Tensor) -> Tensor:
        return model.loss().expand(len(batch))

    return Losses(LossFunction(loss), model, torch.zeros(1, 1))


def normals(key: int, count: int) -> np.ndarray:
    """One number for each weight: noise of a key of its own, by the number of the weight."""
    return numpy_noise.direction(1, 32, fold(key, 9), 0)[0, :count]


@pytest.mark.parametrize("queries", [1, 2])
def test_steps_stretch_what_the_paper_stretches(queries: int) -> None:
    """Two cycles: plain steps, then ratios from losses alone, clipped, then the projection."""
    model = Bowls()
    options = {"interval": 3, "iterations": 4, "length_eps": 0.1, "length_lr": 2.0, "clip": 0.05}
    optimizer = DiZO(model.parameters(), LR, ["q_proj", "v_*"], **options)
    start = [floats(index).double().numpy() for index in range(3)]
    theta = [one.copy() for one in start]
    targets = [one.numpy() for one in model.targets]
    kept, clipped = [0, 2], 0

    def loss(at: list[np.ndarray]) -> float:
        return float(sum((1 + i) * ((at[i] - targets[i]) ** 2).sum() for i in range(3)) / 100)

    def at_ratios(r: np.ndarray) -> float:
        moved = [start[i] + r[i] * (theta[i] - start[i]) for i in range(3)]
        return loss(moved)

    ratios = np.ones(3)
    for step in range(14):
        keys = [fold(5, step, query) for query in range(queries)]
        found = LayerLengths().estimate(losses(model), model.reading, keys, EPS, False).values
        if step % 7 < 3:
            for key in keys:
                z = [numpy_noise.direction(ROWS, COLUMNS, key, i) for i in range(3)]
                plus, minus = (
                    loss([one + sign * EPS * each for one, each in zip(theta, z, strict=True)])
                    for sign in (1, -1)
                )
                d = (plus - minus) / (2 * EPS)
                npt.assert_allclose(found[keys.index(key)], d, rtol=2e-2, atol=2e-3)
            values = found.double().numpy()
            for key, d in zip(keys, values, strict=True):
                for i in range(3):
                    z = numpy_noise.direction(ROWS, COLUMNS, key, i)
                    theta[i] = theta[i] - LR / queries * d * z
        else:
            n, change = [np.zeros(3) for _ in keys], np.zeros(3)
            for q, key in enumerate(keys):
                n[q][kept] = normals(key, 3)[kept]
                d = (at_ratios(ratios + 0.1 * n[q]) - at_ratios(ratios - 0.1 * n[q])) / 0.2
                npt.assert_allclose(found[q], d, rtol=1e-3, atol=1e-6)
                change += 2.0 / queries * d * n[q]
            wanted = ratios - change
            ratios = np.clip(wanted, 0.95, 1.05)
            clipped += int((wanted != ratios).sum())
        named = torch.tensor([signed(key) for key in keys])
        optimizer.step(gradient=ProjectedGradient(named, found, step))
        if 3 <= step % 7 < 6:
            npt.assert_allclose(list(optimizer.lengths.ratios.values()), ratios[kept], 1e-3)
        if step % 7 == 6:
            theta = [start[i] + ratios[i] * (theta[i] - start[i]) for i in range(3)]
            assert (ratios[kept] != 1).all()
            ratios = np.ones(3)
        for weight, wanted in zip(model.parameters(), theta, strict=True):
            npt.assert_allclose(weight.store.weight.numpy(), wanted, atol=2e-5)
        assert optimizer.lengths.learning == ((step + 1) % 7 >= 3)
    assert clipped, "no ratio met its bound: the test does not show the clip"


def moved_by(one: Any, before: dict[str, Tensor]) -> dict[str, Tensor]:
    return {w.path: w.dense().double() - before[w.path] for w in one.weights}


@pytest.mark.parametrize(
    "parts",
    [
        {"perturber": CodePerturber()},
        {"quantizer": Int4(32), "perturber": ScalePerturber()},
        {"quantizer": Int4(32), "perturber": ScalePerturber(granularity="group")},
        {"recipe": "overlay", "perturber": SparsePerturber()},
        {"recipe": "dense", "dtype": "float32"},
    ],
    ids=("codes", "factors of rows", "scales", "entries", "floats"),
)
def test_every_kind_of_coordinates_is_stretched(parts: dict[str, Any]) -> None:
    """The ratio of what a layer has moved, before and after; codes to the rounding of one code."""
    lr = 3.0 if isinstance(parts.get("perturber"), CodePerturber) else 1e-2

    def optimizer(params: Any) -> DiZO:
        return DiZO(params, lr, interval=2, iterations=1, length_lr=1e-6, clip=0.5)

    one = module(**{**parts, "optimizer": optimizer, "estimator": LayerLengths()})
    made: Any = one.configure_optimizers()
    start = {w.path: w.dense().double() for w in one.weights}
    for step in range(2):
        keys = torch.tensor([signed(fold(1, step))])
        made.step(gradient=ProjectedGradient(keys, torch.tensor([0.5]), step))
    moved = moved_by(one, start)
    assert all(change.any() for change in moved.values())
    assert made.lengths.learning
    made.lengths.ratios = dict.fromkeys(made.lengths.ratios, 1.4)
    with one.reading.stretched(dict.fromkeys(made.lengths.ratios, (1.4,))):
        read = moved_by(one, start)
    made.step(gradient=ProjectedGradient(torch.tensor([3]), torch.tensor([0.0]), 9))
    after = moved_by(one, start)
    for weight in one.weights:
        stretched = any(part in weight.path for part in ("q_proj", "v_proj"))
        wanted = (1.4 if stretched else 1.0) * moved[weight.path]
        torch.testing.assert_close(read[weight.path], wanted, rtol=1e-3, atol=1e-7)
        if weight.store.quantized and weight.site.coordinates.rounded:
            # Rounded stochastically, to a neighbour; right on average, within five deviations of
            # at most half a code. Codes at the end of their range stay there.
            inside = weight.store.codes.int().abs() < 110
            off = ((after[weight.path] - wanted) / weight.store.scale)[inside]
            assert off.abs().max() < 1.001
            assert off.mean().abs() < 5 / 2 / inside.sum() ** 0.5
        else:
            torch.testing.assert_close(after[weight.path], wanted, rtol=1e-3, atol=1e-7)


def test_a_pair_reads_what_two_passes_read() -> None:
    for parts in ({}, {"quantizer": Int4(32), "perturber": ScalePerturber()}):
        one = module(
            estimator=LayerLengths(),
            optimizer=lambda params: DiZO(params, 50.0, interval=1, iterations=1),
            **parts,
        )
        optimizer: Any = one.configure_optimizers()
        optimizer.step(gradient=ProjectedGradient(torch.tensor([3]), torch.tensor([0.5]), 1))
        assert one.pairable
        values = []
        for paired in (True, False):
            one.estimator.paired = paired
            values.append(one.estimate(batch("llama"), [7, 8]).values)
        torch.testing.assert_close(*values, rtol=1e-3, atol=1e-6)
        assert (values[0] != 0).all()


def test_a_checkpoint_in_the_middle_of_learning() -> None:
    def fresh() -> tuple[Any, Any]:
        one = module(
            estimator=LayerLengths(),
            optimizer=lambda params: DiZO(params, 100.0, interval=2, iterations=3, length_lr=0.1),
        )
        return one, one.configure_optimizers()

    def go(optimizer: Any, steps: range) -> None:
        for step in steps:
            keys, values = torch.tensor([signed(fold(4, step))]), torch.tensor([0.3])
            optimizer.step(gradient=ProjectedGradient(keys, values, step))

    one, optimizer = fresh()
    go(optimizer, range(3))
    weights = {k: v.clone() for k, v in one.state_dict().items()}
    kept = optimizer.state_dict()
    other, again = fresh()
    other.load_state_dict(weights)
    again.load_state_dict(kept)
    assert again.lengths.ratios == optimizer.lengths.ratios
    assert any(ratio != 1 for ratio in again.lengths.ratios.values())
    for made in (optimizer, again):
        go(made, range(3, 9))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
    del kept["state"][0]["anchor.codes"]
    with pytest.raises(UserError, match="lacks what DiZO's layers started from"):
        again.load_state_dict(kept)


def test_refusals() -> None:
    for options, said in (
        ({"interval": 0}, "interval must be at least 1, got 0"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"length_eps": 0.0}, "length_eps must be a positive number, got 0.0"),
        ({"length_lr": float("inf")}, "length_lr must be a positive number, got inf"),
        ({"clip": 1.0}, r"clip must be in \(0, 1\), got 1.0"),
    ):
        with pytest.raises(UserError, match=said):
            DiZO([torch.zeros(1)], 0.1, **options)
    one = module(
        estimator=LayerLengths(), optimizer=lambda params: DiZO(params, 0.1, layers=["*c_attn*"])
    )
    with pytest.raises(UserError, match=r"layers \['\*c_attn\*'\] name none of the weights"):
        one.configure_optimizers()
    with pytest.raises(UserError, match="got quantizer Int8 with activations=int8"):
        module(
            quantizer=Int8(activations="int8"),
            perturber=CodePerturber(eps=1.4),
            estimator=LayerLengths(),
        )
    one = module(estimator=LayerLengths(), optimizer=lambda params: ZOSGD(params, 1.0))
    with pytest.raises(UserError, match="ZOSGD takes slopes, got estimator LayerLengths"):
        one.configure_optimizers()
