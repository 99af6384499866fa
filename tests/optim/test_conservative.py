"""Which of three steps is kept, and which runs are refused."""

import math
from dataclasses import replace

import pytest
import torch
from one_weight import parameter

from zolit.errors import UserError
from zolit.optim import ZOConservative
from zolit.optim.base import StepParts
from zolit.strategies import (
    ClippedTwoPoint,
    CodePerturber,
    Int8,
    NoQuantizer,
    OneSided,
    ScalePerturber,
    TwoPoint,
)

VALUE = torch.tensor([4.0])
NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("losses", "wanted"),
    [
        ([1.0, 2.0, 3.0], [4.0]),
        ([3.0, 2.0, 1.0], [-4.0]),
        ([2.0, 1.0, 3.0], []),
        ([1.0, 1.0, 1.0], [4.0]),
        ([2.0, 1.0, 1.0], []),
        ([NAN, 2.0, 3.0], []),
        ([NAN, NAN, 3.0], [-4.0]),
        ([NAN, INF, NAN], []),
    ],
)
def test_the_least_of_three_losses_decides(losses: list[float], wanted: list[float]) -> None:
    asked: list[float] = []

    def losses_at(lengths: list[float]) -> torch.Tensor:
        asked.extend(lengths)
        return torch.tensor(losses)

    optimizer = ZOConservative([parameter(NoQuantizer())], lr=0.5)
    assert optimizer.choose(VALUE, losses_at).tolist() == wanted
    assert asked == [-2.0, 0.0, 2.0], "lr times the value, against the slope first"


def test_a_skipped_direction_is_not_read() -> None:
    optimizer = ZOConservative([parameter(NoQuantizer())], lr=0.5)
    assert len(optimizer.choose(torch.zeros(0), lambda lengths: pytest.fail("read"))) == 0


PARTS = StepParts(1, 1, TwoPoint(), Int8(), CodePerturber())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"queries": 2}, "along one direction a step, got query_scheduler with 2"),
        ({"micro_batches": 3}, "losses of one batch, got micro_batches 3"),
        ({"estimator": ClippedTwoPoint()}, "got estimator ClippedTwoPoint; use TwoPoint"),
        ({"quantizer": Int8(activations="int8")}, "quantizer Int8 with activations=int8 reads"),
    ],
)
def test_runs_that_it_cannot_make(change: dict, sentence: str) -> None:
    optimizer = ZOConservative([parameter(Int8())], lr=0.5)
    optimizer.check(PARTS)
    optimizer.check(replace(PARTS, estimator=OneSided()))
    whole = {"quantizer": Int8(activations="int8"), "perturber": ScalePerturber()}
    optimizer.check(replace(PARTS, **whole))
    with pytest.raises(UserError, match=sentence):
        optimizer.check(replace(PARTS, **change))
