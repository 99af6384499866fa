"""A kind of coordinates of one's own is one class: read, multiplied, moved, saved and measured."""

import copy
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import batch, prepared

from zolit.checkpoints.tensors import load_weight_tensors, weight_tensors
from zolit.coordinates import Coordinates, Extent, Moving, Site
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.dense import DenseWeight
from zolit.formats.rows import Rows, row_indices
from zolit.gradient import ProjectedGradient
from zolit.kernels.arguments import Perturbation, Query, Update
from zolit.kernels.dispatch import Preference
from zolit.noise import Direction, coordinates
from zolit.objectives.option_scoring import OptionScoring
from zolit.optim import ZOSGD
from zolit.strategies import Int8, NoQuantizer, Perturber, Quantizer, RandomMask
from zolit.supports import Hashed, Support
from zolit.tensors.extent import relative_direction
from zolit.tensors.outputs import Outputs
from zolit.tensors.reading import Reading
from zolit.tensors.step import Step, constant
from zolit.tensors.update import move
from zolit.tensors.versions import AS_STORED, Versions
from zolit.tensors.weight import PerturbedWeight, perturbed_weights

KEY, EPS = 5, 0.25


@dataclass(frozen=True)
class FirstColumns(Coordinates):
    """The first columns of a weight move, in units of weights: up to 32 a row."""

    count: int

    def versions(self, store: StoredWeight, site: Site, reading: Reading) -> Versions:
        noise = reading.perturbation(site, (0.0, 1.0), store.device)
        return AS_STORED if noise is None else _Shifted(self.count, reading.copies(site), noise)

    def move(self, moving: Moving, step: Step) -> None:
        store, feedback = moving.store, moving.feedback
        total = torch.zeros(store.rows, store.padded_columns)
        rows = slice(0, store.rows)
        for query in step.queries(moving.site):
            total[:, : self.count] += query.coefficient * _noise(self.count, rows, query)
        update = Update(
            total,
            constant((0.0, 1.0), store.device),
            step.rounding(moving.site),
            None if feedback is None else feedback.residual,
            None if feedback is None else constant(feedback.decay, store.device),
        )
        store.apply(rows, update, step.reading.preference)

    def extent(self, store: StoredWeight, density: float) -> Extent:
        count = store.rows * self.count
        return Extent(False, count, (count * density) ** 0.5)


def _noise(count: int, rows: Rows, by: Query | Perturbation) -> Tensor:
    index = row_indices(rows, by.control.device)
    return coordinates(by.direction, by.control, index, 1, 1)[:, 0, 0, :count]


class _Shifted(Versions):
    def __init__(self, count: int, copies: int, perturbation: Perturbation) -> None:
        self.count, self.copies, self.perturbation = count, copies, perturbation

    def read(
        self, store: StoredWeight, rows: Rows, outs: list[Tensor], preference: Preference
    ) -> None:
        z = self.perturbation.amplitude[1] * _noise(self.count, rows, self.perturbation)
        for sign, out in zip((1, -1), outs, strict=False):
            store.read(rows, [out], None, preference)
            out[:, : self.count] += sign * z


class _Swap(Outputs):
    """A change of products that says nothing of experts."""

    copies = 1

    def change_product(self, *arguments: object) -> None: ...

    def change_rows(self, values: Tensor, rows: Rows, store: StoredWeight) -> list[Tensor]:
        return [values]


class ColumnPerturber(Perturber):
    def __init__(self, count: int = 3) -> None:
        super().__init__(1e-3)
        self.count = count

    def direction(self) -> Direction:
        return Direction("rademacher")

    def check(self, quantizer: Quantizer) -> None: ...

    def coordinates(self, store: StoredWeight) -> Coordinates:
        return FirstColumns(self.count)

    quantized_coordinates = coordinates


def wrapped(store: StoredWeight, chunk_bytes: int = 16 << 20) -> PerturbedWeight:
    reading = Reading(Direction("gaussian"), "reference", chunk_bytes)
    shape = torch.Size((store.rows, store.columns))
    return PerturbedWeight(store, Site(0, FirstColumns(3)), reading, "w", shape, torch.float32)


def matrix(rows: int = 11, columns: int = 96) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(1))


def both(weight: PerturbedWeight) -> list[Tensor]:
    found = []
    for sign in (1, -1):
        with weight.reading.perturbed(KEY, sign * EPS, 1):
            found.append(weight * 1.0)
    return found


@pytest.mark.parametrize("chunk_bytes", [1000, 16 << 20])
@pytest.mark.parametrize("quantizer", [NoQuantizer(), Int8(), Int8(32)])
def test_products_and_lookups_read_it(quantizer: Quantizer, chunk_bytes: int) -> None:
    weight = wrapped(quantizer.store(matrix(), "w"), chunk_bytes)
    rest = weight * 1.0
    plus, minus = both(weight)
    assert ((plus != rest) == (torch.arange(96) < 3)).all()
    torch.testing.assert_close(plus + minus, 2 * rest)
    x = torch.randn(4, 2, 96, generator=torch.Generator().manual_seed(2))
    ids = torch.tensor([[3, 10], [0, 0]])
    torch.testing.assert_close(F.linear(x, weight), x @ rest.T)
    with weight.reading.perturbed(KEY, EPS, 2):
        got, rows = F.linear(x, weight), F.embedding(ids, weight)
    torch.testing.assert_close(got, torch.cat((x[:2] @ plus.T, x[2:] @ minus.T)))
    torch.testing.assert_close(rows, torch.stack((plus[ids[0]], minus[ids[1]])))


def test_a_step_goes_where_the_reads_went() -> None:
    weight = wrapped(DenseWeight(matrix()))
    rest = weight.dense().clone()
    wanted = rest + 2.0 * (both(weight)[0] - rest) / EPS
    move([weight], [KEY], [2.0], 1, [None])
    torch.testing.assert_close(weight.dense(), wanted)


def test_products_of_integers_are_refused() -> None:
    weight = wrapped(Int8(activations="int8").store(matrix(), "w"))
    with weight.reading.perturbed(KEY, EPS, 1), pytest.raises(UserError, match="activations: none"):
        F.linear(torch.ones(2, 96), weight)
    with pytest.raises(UserError, match="experts cannot be read along _Swap"):
        _Swap().change_experts(torch.ones(1), torch.ones(1), None, weight.store, [])


@torch.no_grad()
@pytest.mark.parametrize("feedback", [False, True])
def test_a_model_is_tuned_along_it_and_resumes(feedback: bool) -> None:
    def start() -> tuple[nn.Module, Reading, ZOSGD]:
        model, reading, pairable = prepared("llama", Int8(), None, ColumnPerturber())
        assert pairable
        weights = perturbed_weights(model)
        return model, reading, ZOSGD(weights, lr=1e-3, error_feedback=feedback)

    def steps(model: nn.Module, reading: Reading, optimizer: ZOSGD, keys: Sequence[int]) -> None:
        for key in keys:
            with reading.perturbed(key, 1e-2, 2):
                plus, minus = OptionScoring().losses(model, batch("llama"), 2)
            value = ((plus - minus) / 2e-2).float().view(1)
            assert value != 0
            optimizer.step(gradient=ProjectedGradient(torch.tensor([key]), value, key))

    model, reading, optimizer = start()
    before = {name: tensor.clone() for name, tensor in weight_tensors(model).items()}
    steps(model, reading, optimizer, [1, 2])
    saved = {name: tensor.clone() for name, tensor in weight_tensors(model).items()}
    states = copy.deepcopy(optimizer.state_dict())
    assert any(not torch.equal(saved[name], before[name]) for name in saved)
    assert all(
        torch.equal(saved[name][:, 3:], before[name][:, 3:]) for name in saved if "codes" in name
    )
    steps(model, reading, optimizer, [3])

    again, other, resumed = start()
    load_weight_tensors(again, saved)
    resumed.load_state_dict(states)
    assert any("residual" in state for state in states["state"].values()) == feedback
    steps(again, other, resumed, [3])
    for name, tensor in weight_tensors(model).items():
        assert torch.equal(weight_tensors(again)[name], tensor)


def test_rates_and_steps_are_measured_by_its_extent() -> None:
    model, _, _ = prepared("llama", NoQuantizer(), None, ColumnPerturber())
    weights = perturbed_weights(model)
    before = [weight.dense().double() for weight in weights]
    size = sum(float(value.square().sum()) for value in before)
    move(weights, [3], [0.01], 1, [None] * len(weights))
    moved = sum(
        float((weight.dense().double() - old).square().sum())
        for weight, old in zip(weights, before, strict=True)
    )
    # Signs: every coordinate moves as far; the size of a weight is taken from some of its rows.
    assert (moved / size) ** 0.5 / 0.01 == pytest.approx(relative_direction(weights), rel=0.1)
    # Few coordinates count as many, so that the rate is the one of any few.
    assert ColumnPerturber().default_lr(weights, 1) == 2e-3


def test_masks_hold_for_it_and_a_kind_may_refuse_them() -> None:
    class Whole(FirstColumns):
        def check(self, path: str, support: Support) -> None:
            if support.density < 1:
                raise UserError(f"{path} moves whole; use NoMask")

    class WholePerturber(ColumnPerturber):
        def coordinates(self, store: StoredWeight) -> Coordinates:
            return Whole(self.count)

    model, reading, _ = prepared(
        "llama", NoQuantizer(), None, ColumnPerturber(), mask=RandomMask(0.5)
    )
    weight = perturbed_weights(model)[0]
    assert isinstance(weight.site.support, Hashed)
    rest = weight.dense().clone()
    with reading.perturbed(KEY, EPS, 1):
        moved = (weight.dense() != rest)[:, :3].float().mean()
    assert 0.2 < moved < 0.8
    with pytest.raises(UserError, match="moves whole; use NoMask"):
        prepared("llama", NoQuantizer(), None, WholePerturber(), mask=RandomMask(0.5))
