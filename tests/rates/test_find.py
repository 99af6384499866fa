"""Proposed rates against closed forms, on a loss whose slopes and curvature are known exactly."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from zolit import (
    ZOSGD,
    ClippedTwoPoint,
    CodePerturber,
    ConstantQueries,
    DensePerturber,
    GaussNewton,
    HiZOO,
    Int8,
    LossFunction,
    NoQuantizer,
    Objective,
    OneSided,
    SecondDifference,
    UserError,
    ZeroOrderModule,
    ZOAdam,
    ZOMomentum,
    ZOSignSGD,
    wrap,
)
from zolit.rates.find import find_rates

ROWS, COLUMNS, CURVATURE, START = 48, 64, 0.02, 3.0
COORDINATES = ROWS * COLUMNS


class Toy(nn.Module):
    """One linear layer, the slope of whose loss is a given matrix."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.layer = nn.Linear(COLUMNS, ROWS, bias=False)
        with torch.no_grad():
            self.layer.weight.zero_()
        self.slope = torch.randn(ROWS, COLUMNS, generator=generator) * 0.05

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


def parabola(model: Any, batch: Tensor) -> Tensor:
    """``START + slope . W + curvature / 2 |W|^2``, from products with the unit matrix alone."""
    copies = batch.shape[0] // COLUMNS
    weights = model(batch).view(copies, COLUMNS, ROWS).mT
    slope = model.slope.to(weights)
    total = (slope * weights).sum((1, 2)) + CURVATURE / 2 * weights.square().sum((1, 2))
    return (START + total).repeat_interleave(COLUMNS)


def module(distribution: str = "rademacher", **options: Any) -> ZeroOrderModule:
    return wrap(
        Toy(),
        NoQuantizer(),
        DensePerturber(distribution=distribution),
        objective=LossFunction(parabola),
        tune=["layer.weight"],
        dtype="float32",
        kernels="reference",
        **options,
    )


BATCHES = [torch.eye(COLUMNS)]


def root_mean_square(values: Tensor | tuple[float, ...]) -> float:
    return float(torch.as_tensor(values).double().square().mean().sqrt())


def test_reach_and_rate_of_a_parabola() -> None:
    """Signs have |z|^2 = D, so that the rise along every direction is known: c D t^2 / 2."""
    found = find_rates(module(query_scheduler=ConstantQueries(4)), BATCHES, steps=50, rise=0.5)
    reach = math.sqrt(2 * 0.5 * START / (CURVATURE * COORDINATES))
    assert found.reach == pytest.approx(reach, rel=1e-3)
    assert found.loss == pytest.approx(START)
    # Slopes along signs have the mean square |g|^2; twelve of them, so within a factor of 2.5
    # (chi-square with 12 degrees of freedom: one seed in 3000 is outside).
    size = float(Toy().slope.norm())
    assert size / 2.5 < found.slope < 2.5 * size
    # A walk of 50 steps of 4 directions: lr sqrt(50 / 4) slope = reach.
    assert found.lr == pytest.approx(reach / (found.slope * math.sqrt(50 / 4)), rel=0.05)


def test_no_farther_than_the_weights_are_long() -> None:
    """A loss that does not rise: the proposal ends where the steps are as long as the weights."""
    toy = Toy()
    with torch.no_grad():
        toy.layer.weight.fill_(0.5)
    made = wrap(
        toy,
        NoQuantizer(),
        DensePerturber(distribution="rademacher"),
        objective=LossFunction(lambda model, batch: 9 + model(batch).mean(1)),
        tune=["layer.weight"],
        dtype="float32",
        kernels="reference",
    )
    found = find_rates(made, BATCHES, steps=10)
    assert found.risen < found.rise
    assert 0.5 / 3 < found.reach <= 0.5
    assert "does not rise" in " ".join(found.told())


def test_nothing_is_moved() -> None:
    one = module()
    before = one.weights[0].dense().clone()
    random = torch.random.get_rng_state()
    find_rates(one, BATCHES, steps=10)
    assert torch.equal(one.weights[0].dense(), before)
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not one.reading.active


def test_the_same_answer_each_time() -> None:
    first, second = (find_rates(module(), BATCHES, steps=10) for _ in range(2))
    assert (first.lr, first.eps, first.slopes) == (second.lr, second.eps, second.slopes)
    other = find_rates(module(seed=1), BATCHES, steps=10)
    assert other.slopes != first.slopes


@pytest.mark.parametrize(("more", "factor"), [({"steps": 400}, 1 / 2), ({"steps": 25}, 2.0)])
def test_more_steps_are_shorter(more: dict[str, int], factor: float) -> None:
    base = find_rates(module(), BATCHES, steps=100).lr
    found = find_rates(module(), BATCHES, **more).lr
    assert found is not None
    assert base is not None
    assert found == pytest.approx(base * factor, rel=0.06)  # both have two digits


def test_a_schedule_counts() -> None:
    """A rate that falls to zero in a line has a third of the squares."""

    def falling(optimizer: torch.optim.Optimizer) -> Any:
        return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=300)

    constant = find_rates(module(), BATCHES, steps=300)
    found = find_rates(module(lr_scheduler=falling), BATCHES, steps=300)
    assert found.lr is not None
    assert constant.lr is not None
    assert found.lr / constant.lr == pytest.approx(math.sqrt(3), rel=0.06)


def test_signs_have_one_length() -> None:
    found = find_rates(
        module(optimizer=lambda params: ZOSignSGD(params, lr=1.0)), BATCHES, steps=100
    )
    assert found.lr == pytest.approx(found.reach / 10, rel=0.05)


def test_clipping_shortens_steps() -> None:
    """Slopes beyond the limit count as the limit; the estimator of the run keeps its memory."""
    plain = find_rates(module(), BATCHES, steps=100)
    limit = plain.slope / 4
    clipped = module(estimator=ClippedTwoPoint(limit=limit))
    found = find_rates(clipped, BATCHES, steps=100)
    capped = torch.tensor(plain.slopes).clamp(-limit, limit)
    assert plain.lr is not None
    wanted = plain.lr * plain.slope / root_mean_square(capped)
    assert found.lr == pytest.approx(wanted, rel=0.06)
    follows = module(estimator=ClippedTwoPoint())
    find_rates(follows, BATCHES, steps=100)
    assert follows.estimator.recent == []  # type: ignore[attr-defined]


def test_eps_of_one_side_is_shorter_where_the_loss_curves() -> None:
    """Of signs on this parabola the curvature is the same along all directions: what directions
    share does not count, but a single direction has all of it."""
    both = find_rates(module(), BATCHES, steps=100)
    alone = find_rates(module(estimator=OneSided()), BATCHES, steps=100)
    shared = find_rates(
        module(estimator=OneSided(), query_scheduler=ConstantQueries(4)), BATCHES, steps=100
    )
    assert alone.eps < both.eps
    assert alone.eps < shared.eps
    assert alone.error.spread == pytest.approx(CURVATURE * COORDINATES / 2, rel=1e-3)
    assert shared.error.spread < 0.01 * alone.error.spread


def test_gauss_newton_has_a_length_of_its_own() -> None:
    one = module()
    one.estimator = GaussNewton()
    found = find_rates(one, BATCHES, steps=100)
    assert found.lr == 1.0
    assert "GaussNewton" in " ".join(found.told())


def test_an_optimizer_that_does_not_say_its_steps() -> None:
    class Own(torch.optim.SGD):
        projected_gradient = True

    found = find_rates(module(optimizer=lambda params: Own(params, lr=1.0)), BATCHES, steps=5)
    assert found.lr is None
    assert "Own does not say" in " ".join(found.told())


def test_momentum_counts() -> None:
    """Steps that add up to ten times their length bear a tenth of the rate."""
    plain = find_rates(module(), BATCHES, steps=100)
    rolling = module(optimizer=lambda params: ZOMomentum(params, lr=1.0, momentum=0.9))
    found = find_rates(rolling, BATCHES, steps=100)
    assert plain.lr is not None
    assert found.lr == pytest.approx(plain.lr / 10, rel=0.06)
    adaptive = module(optimizer=lambda params: ZOAdam(params, lr=1.0))
    assert "ZOAdam does not tell" in " ".join(find_rates(adaptive, BATCHES, steps=100).told())


def test_an_estimator_that_measures_something_else() -> None:
    one = module("gaussian", optimizer=lambda params: HiZOO(params, lr=1.0))
    one.estimator = SecondDifference()
    found = find_rates(one, BATCHES, steps=100)
    assert found.lr is None
    assert found.eps > 0
    assert "SecondDifference measures something else" in " ".join(found.told())


def test_a_flat_loss_is_refused() -> None:
    class Flat(Objective):
        def losses(self, model: nn.Module, batch: Tensor, copies: int = 1) -> Tensor:
            return torch.ones(copies)

    one = module()
    one.objective = Flat()
    with pytest.raises(UserError, match="the same at both ends"):
        find_rates(one, BATCHES, steps=5)


def test_a_loss_that_is_not_finite_is_refused() -> None:
    one = module()
    one.objective = LossFunction(lambda model, batch: torch.full((len(batch),), math.nan))
    with pytest.raises(UserError, match="NaN or infinite"):
        find_rates(one, BATCHES, steps=5)


def test_a_loss_of_zero_is_refused() -> None:
    class Zero(Objective):
        def losses(self, model: nn.Module, batch: Tensor, copies: int = 1) -> Tensor:
            return torch.zeros(copies)

    one = module()
    one.objective = Zero()
    with pytest.raises(UserError, match="nothing to lower"):
        find_rates(one, BATCHES, steps=5)


def test_whole_codes_stay_whole() -> None:
    """Products of integers take whole codes: the proposal is one that `check` accepts."""
    toy = Toy()
    with torch.no_grad():
        toy.layer.weight.copy_(20 * toy.slope)
    made = wrap(
        toy,
        Int8(activations="int8"),
        CodePerturber(distribution="rademacher"),
        objective=LossFunction(parabola),
        tune=["layer.weight"],
        dtype="float32",
        kernels="reference",
    )
    found = find_rates(made, BATCHES, steps=5)
    assert found.eps == round(found.eps) >= 1
    CodePerturber(found.eps, distribution="rademacher").check(Int8(activations="int8"))


class AroundStart(Objective):
    """``START + slope . (W - W0) + curvature / 2 |W - W0|^2``."""

    def __init__(self, curvature: float) -> None:
        self.curvature = curvature
        self.start: Tensor | None = None

    def losses(self, model: Any, batch: Tensor, copies: int = 1) -> Tensor:
        weights = model(batch.repeat(copies, 1)).view(copies, COLUMNS, ROWS).mT.double()
        if self.start is None:  # the first read is of the stored weights
            self.start = weights[:1].clone()
        moved = weights - self.start
        rise = self.curvature / 2 * moved.square().sum((1, 2))
        return (START + (model.slope.double() * moved).sum((1, 2)) + rise).float()


def of_codes(curvature: float, **optimizer: Any) -> ZeroOrderModule:
    toy = Toy()
    with torch.no_grad():
        toy.layer.weight.copy_(20 * toy.slope)
    return wrap(
        toy,
        Int8(),
        CodePerturber(distribution="rademacher"),
        objective=AroundStart(curvature),
        optimizer=lambda params: ZOSGD(params, lr=1.0, **optimizer),
        tune=["layer.weight"],
        dtype="float32",
        kernels="reference",
    )


def test_codes_that_are_rounded_at_random_take_shorter_steps() -> None:
    carried = find_rates(of_codes(0.02, error_feedback=True), BATCHES, steps=20_000)
    found = find_rates(of_codes(0.02), BATCHES, steps=20_000)
    assert found.reach == pytest.approx(carried.reach)
    assert carried.rate.rounded == 0.0
    assert found.rate.rounded > 0.5
    assert found.lr is not None
    assert carried.lr is not None
    # Both parts of the walk: (lr s)^2 T + sqrt(2 / pi) lr s T codes = reach^2.
    step = found.lr * root_mean_square(found.slopes)
    whole = 20_000 * (step**2 + math.sqrt(2 / math.pi) * step)
    assert whole == pytest.approx(found.reach**2, rel=0.06)
    assert found.lr < carried.lr
    assert "rounding at random" in " ".join(found.told())
    assert "rounding at random" not in " ".join(carried.told())


def test_codes_that_error_feedback_holds_back() -> None:
    held = find_rates(of_codes(2e4, error_feedback=True), BATCHES, steps=20)
    assert "no code would move" in " ".join(held.told())
    free = find_rates(of_codes(0.02, error_feedback=True), BATCHES, steps=20)
    assert "no code would move" not in " ".join(free.told())


def test_taken_by_a_module() -> None:
    one = module(optimizer=lambda params: ZOSGD(params, lr=7.0))
    found = find_rates(one, BATCHES, steps=20)
    found.take(one)
    optimizer = one.configure_optimizers()
    assert optimizer.param_groups[0]["lr"] == found.lr
    assert one.perturber.eps == found.eps
    assert one.default_lr is None
