"""Clipping of projected gradients: bounds, counts, state, and the run that needs it."""

import math
from collections.abc import Callable
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.objectives.base import Objective
from zolit.optim import ZOSGD
from zolit.strategies import (
    ClippedTwoPoint,
    DensePerturber,
    Estimator,
    NoQuantizer,
    TwoPoint,
)
from zolit.training.zero_order import ZeroOrderModule

COLUMNS, STEPS = 8, 300
Inputs = tuple[Tensor, Tensor]


def heavy_tailed_batches() -> list[Inputs]:
    """Batches of a noiseless linear problem whose inputs are scaled by |Cauchy| numbers."""
    generator = torch.Generator().manual_seed(0)
    true = torch.randn(1, COLUMNS, generator=generator)
    batches = []
    for _ in range(STEPS):
        x = torch.randn(4, COLUMNS, generator=generator) / COLUMNS**0.5
        size = torch.tan(math.pi * (torch.rand(1, generator=generator) - 0.5)).abs()
        batches.append((size * x, size * x @ true.T))
    return batches


class SquaredError(Objective):
    """Mean of ``|W x - y|^2`` over the batch."""

    def losses(self, model: nn.Module, batch: Inputs, copies: int = 1) -> Tensor:
        x, y = (part.repeat(copies, 1) for part in batch)
        return ((model(x) - y) ** 2).view(copies, -1).mean(1)


def module(estimator: Estimator) -> ZeroOrderModule:
    layer = nn.Linear(COLUMNS, 1, bias=False).requires_grad_(False)
    layer.weight.copy_(torch.randn(1, COLUMNS, generator=torch.Generator().manual_seed(7)))
    one = ZeroOrderModule(
        ModelSource("unused"),
        NoQuantizer(),
        DensePerturber(),
        estimator,
        objective=SquaredError(),
        optimizer=lambda params: ZOSGD(params, lr=0.05),
        dtype="float32",
        kernels="reference",
        seed=1,
    )
    one.adopt(nn.Sequential(layer))
    return one


def typical_loss(one: ZeroOrderModule) -> float:
    """Median over the batches of loss by squared size of the input: heavy tails do not count."""
    found = []
    with torch.no_grad():
        for x, y in heavy_tailed_batches():
            size = (x**2).sum(1).mean()
            found.append(float(one.objective.losses(one.network, (x, y))[0] / size))
    return float(np.median(found))


def fit(one: ZeroOrderModule) -> L.Trainer:
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=STEPS,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    trainer.fit(one, torch.utils.data.DataLoader(heavy_tailed_batches(), batch_size=None))
    return trainer


def test_a_run_that_diverges_without_clipping() -> None:
    one = module(TwoPoint())
    start = typical_loss(one)
    fit(one)
    assert not typical_loss(one) < 1e6 * start


@pytest.mark.parametrize("limit", [1.0, None])
def test_the_same_run_holds_with_clipping(limit: float | None) -> None:
    one = module(ClippedTwoPoint(limit))
    start = typical_loss(one)
    trainer = fit(one)
    assert typical_loss(one) < 0.3 * start
    assert one.skipped_queries == 0
    logged = trainer.callback_metrics["clipped_queries"]
    assert logged == one.estimator.clipped_queries
    assert 0.1 * STEPS < logged < 0.7 * STEPS


def test_fixed_limit() -> None:
    values = torch.tensor([-300.0, -100.0, 5.0, 100.5])
    one = ClippedTwoPoint(limit=100.0)
    assert one.finish(values).tolist() == [-100.0, -100.0, 5.0, 100.0]
    assert one.clipped_queries == 2
    assert one.metrics() == {"clipped_queries": 2.0}


def test_running_limit_is_the_quantile_of_the_window() -> None:
    one = ClippedTwoPoint(quantile=0.8, window=10)
    seen: list[float] = []
    draws = np.random.default_rng(0).standard_cauchy((40, 3)).astype(np.float32)
    clipped = 0
    for values in draws:
        seen = [*seen, *np.abs(values).tolist()][-10:]
        bound = np.float32(np.quantile(seen, 0.8, method="lower"))
        clipped += int((np.abs(values) > bound).sum())
        got = one.finish(torch.from_numpy(values)).numpy()
        np.testing.assert_array_equal(got, np.clip(values, -bound, bound))
    assert one.clipped_queries == clipped > 5


def test_an_outlier_is_clipped_from_the_second_query_on() -> None:
    one = ClippedTwoPoint()
    one.finish(torch.tensor([2.0]))
    assert one.finish(torch.tensor([-1e30])).item() == -2.0


def test_a_step_without_queries_leaves_no_trace() -> None:
    one, other = ClippedTwoPoint(), ClippedTwoPoint()
    for values in ([1.0], [], [3.0, 2.0], []):
        assert len(one.finish(torch.tensor(values))) == len(values)
    for values in ([1.0], [3.0, 2.0]):
        other.finish(torch.tensor(values))
    assert one.recent == other.recent
    assert one.clipped_queries == other.clipped_queries == 1


def test_queries_without_a_loss_do_not_reach_the_limit() -> None:
    class RunsDry(SquaredError):  # noqa: N818  (no exception)
        """Every third batch has no loss."""

        calls = 0

        def losses(self, model: nn.Module, batch: Inputs, copies: int = 1) -> Tensor:
            self.calls += 1
            found = super().losses(model, batch, copies)
            return found * torch.nan if self.calls % 3 == 0 else found

    one = module(ClippedTwoPoint(window=2 * STEPS))
    one.objective = RunsDry()
    fit(one)
    assert one.skipped_queries == STEPS // 3
    assert isinstance(one.estimator, ClippedTwoPoint)
    assert len(one.estimator.recent) == STEPS - STEPS // 3
    assert np.isfinite(one.estimator.recent).all()


def test_state_round_trip() -> None:
    one, other = ClippedTwoPoint(), ClippedTwoPoint()
    one.finish(torch.tensor([1.0, 8.0, 2.0]))
    other.load_state_dict(one.state_dict())
    for _ in range(3):
        assert torch.equal(one.finish(torch.tensor([5.0])), other.finish(torch.tensor([5.0])))
    assert one.clipped_queries == other.clipped_queries
    with pytest.raises(UserError, match="ckpt_path: the checkpoint is of a run whose estimator"):
        other.load_state_dict({})
    with pytest.raises(UserError, match="state of another estimator than TwoPoint"):
        TwoPoint().load_state_dict(one.state_dict())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClippedTwoPoint(0.0), "limit must be a positive number, got 0.0"),
        (lambda: ClippedTwoPoint(math.nan), "limit must be a positive number, got nan"),
        (lambda: ClippedTwoPoint(quantile=1.0), r"quantile must be in \(0, 1\), got 1.0"),
        (lambda: ClippedTwoPoint(window=1), "window must be at least 2, got 1"),
    ],
)
def test_bad_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make()
