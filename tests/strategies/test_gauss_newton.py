"""Steps within a random subspace: the convex problem, its limits, and what a step makes of it."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.models.source import ModelSource
from zolit.objectives.base import Objective
from zolit.optim import ZOSGD
from zolit.strategies import DensePerturber, GaussNewton, NoQuantizer, RandomBlocks
from zolit.strategies.estimator.gauss_newton import Linearization, solve
from zolit.training.zero_order import ZeroOrderModule

ROWS, COLUMNS, ANSWERS = 60, 6, 3


def problem(answers: int, directions: int = 8, rows: int = ROWS) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, slopes and targets at random."""
    generator = torch.Generator().manual_seed(answers)
    scores = 2 * torch.randn(rows, answers, generator=generator, dtype=torch.float64)
    slopes = torch.randn(directions, rows, answers, generator=generator, dtype=torch.float64)
    return scores, 3 * slopes, torch.randint(answers, (rows,), generator=generator)


def part(scores: Tensor, slopes: Tensor, targets: Tensor, times: float = 1.0) -> Linearization:
    """An estimate as a batch gives it."""
    residual = scores.softmax(1) - nn.functional.one_hot(targets, scores.shape[1])
    values = (slopes * residual).sum(2).mean(1)
    loss = nn.functional.cross_entropy(scores, targets)
    found = (values, loss, scores, slopes)
    return Linearization(*(one.float() for one in found), targets, times)


@pytest.mark.parametrize("answers", [2, 4])
@pytest.mark.parametrize("damping", [1e-5, 1e-2, 1.0])
def test_the_step_minimizes_what_it_says(answers: int, damping: float) -> None:
    scores, slopes, targets = problem(answers)
    s, d, y = scores.numpy(), slopes.numpy(), targets.numpy()
    relative = d - d.mean(2, keepdims=True)
    ridge = damping * np.mean(np.sum(relative**2, axis=(0, 2)))

    def loss(c: Any) -> float:
        moved = log_softmax(s + np.tensordot(c, d, 1), axis=1)
        return -moved[np.arange(len(y)), y].mean() + ridge / 2 * (c @ c)

    wanted = minimize(loss, np.zeros(len(d)), method="BFGS", options={"gtol": 1e-8})
    found = solve(scores, slopes, targets, damping)
    np.testing.assert_allclose(found.numpy(), wanted.x, rtol=1e-4, atol=1e-6)
    assert loss(found.numpy()) < loss(np.zeros(len(d)))


def test_much_damping_gives_back_the_gradient_step() -> None:
    scores, slopes, targets = problem(3)
    one = part(scores, slopes, targets)
    relative = slopes - slopes.mean(2, keepdim=True)
    size = relative.square().sum((0, 2)).mean()
    found = solve(scores, slopes, targets, 1e6)
    torch.testing.assert_close(-found * 1e6 * size, one.values.double(), rtol=1e-4, atol=1e-6)


def test_separable_rows_and_little_damping_end() -> None:
    scores, slopes, targets = problem(2, directions=80, rows=40)
    found = solve(scores, slopes, targets, 1e-9)
    moved = scores + torch.tensordot(found, slopes, dims=1)
    assert found.isfinite().all()
    assert nn.functional.cross_entropy(moved, targets) < 1e-3


def test_directions_that_move_all_answers_alike_are_left() -> None:
    scores, slopes, targets = problem(3)
    alike = slopes[:, :, :1].expand_as(slopes)
    assert torch.equal(solve(scores, alike, targets, 0.01), torch.zeros(8, dtype=torch.float64))
    assert torch.equal(GaussNewton().combine([part(scores, alike, targets)]), torch.zeros(8))


def test_micro_batches_are_one_batch() -> None:
    scores, slopes, targets = problem(3)
    halves = [part(scores[i : i + 30], slopes[:, i : i + 30], targets[i : i + 30]) for i in (0, 30)]
    whole = GaussNewton().combine([part(scores, slopes, targets)])
    torch.testing.assert_close(GaussNewton().combine(halves), whole)
    wanted = -8 * solve(scores, slopes - slopes.mean(0), targets, 0.01)
    torch.testing.assert_close(whole.double(), wanted, rtol=1e-4, atol=1e-5)


def test_what_all_directions_do_to_a_row_is_no_slope() -> None:
    scores, slopes, targets = problem(3)
    wanted = GaussNewton().combine([part(scores, slopes, targets)])
    curvature = 3 * nn.functional.one_hot(targets, 3).double()  # would predict the residuals
    found = GaussNewton().combine([part(scores, slopes + curvature, targets)])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_direction_without_finite_scores_is_skipped_alone() -> None:
    scores, slopes, targets = problem(3)
    good = GaussNewton().combine([part(scores, slopes[1:], targets)])
    slopes[0, 5, 1] = math.nan
    found = GaussNewton().combine([part(scores, slopes, targets)])
    assert found[0].isnan()
    torch.testing.assert_close(found[1:], good)  # both are the mean over the finite ones
    scores[3] = math.inf
    assert GaussNewton().combine([part(scores, slopes, targets)]).isnan().all()


def test_a_rare_direction_is_counted_once() -> None:
    scores, slopes, targets = problem(3)
    often, rare = (
        GaussNewton().combine([part(scores, slopes, targets, times)]) for times in (1.0, 5.0)
    )
    torch.testing.assert_close(5 * rare, often)


class Logits(Objective):
    """Cross-entropy of a linear model's outputs."""

    def losses(self, model: nn.Module, batch: Any, copies: int = 1) -> Tensor:
        scores = model(batch[0].repeat(copies, 1)).view(copies, -1, ANSWERS)
        return torch.stack([nn.functional.cross_entropy(one, batch[1]) for one in scores])

    def scores(self, model: nn.Module, batch: Any) -> Tensor:
        return model(batch[0])

    def targets(self, batch: Any) -> Tensor:
        return batch[1]


def linear_module(mask: RandomBlocks | None = None) -> ZeroOrderModule:
    layer = nn.Linear(COLUMNS, ANSWERS, bias=False).requires_grad_(False)
    layer.weight.zero_()
    one = ZeroOrderModule(
        ModelSource("unused"),
        NoQuantizer(),
        DensePerturber(eps=0.1),
        GaussNewton(damping=1e-7),
        mask,
        objective=Logits(),
        dtype="float32",
        kernels="reference",
    )
    one.adopt(nn.Sequential(layer))
    return one


@torch.no_grad()
@pytest.mark.parametrize("mask", [None, RandomBlocks(1)])
def test_one_step_of_a_linear_model_is_the_whole_way(mask: RandomBlocks | None) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, COLUMNS, generator=generator)
    true = torch.randn(COLUMNS, ANSWERS, generator=generator)
    odds = (x @ true).softmax(1)
    y = torch.multinomial(odds, 1, generator=generator).flatten()

    def loss(w: Any) -> float:
        moved = log_softmax(x.numpy() @ w.reshape(ANSWERS, COLUMNS).T, axis=1)
        return float(-moved[np.arange(ROWS), y.numpy()].mean())

    best = minimize(loss, np.zeros(ANSWERS * COLUMNS), method="BFGS").fun
    one = linear_module(mask)
    keys = list(range(2 * ANSWERS * COLUMNS))  # the directions span all weights
    optimizer = ZOSGD(one.weights, lr=1.0)
    values = one.estimator.combine([one.estimate((x, y), keys)])
    optimizer.step(gradient=ProjectedGradient(torch.tensor(keys), values, 0))
    assert float(one.objective.losses(one.network, (x, y))[0]) == pytest.approx(best, abs=1e-4)


def test_one_direction_is_refused() -> None:
    batch = (torch.ones(2, COLUMNS), torch.tensor([0, 1]))
    with pytest.raises(UserError, match="got 1 directions a step, GaussNewton needs 2 at least"):
        linear_module().estimate(batch, [7])


@pytest.mark.parametrize("damping", [0.0, -1.0, math.nan, math.inf])
def test_damping_must_be_positive(damping: float) -> None:
    with pytest.raises(UserError, match=f"damping must be a positive number, got {damping}"):
        GaussNewton(damping)
