"""The forward and backward passes of a step, as the calls of a network show them."""

import sys
from pathlib import Path
from typing import Any

import pytest
from test_first_order import Data
from test_first_order import module as first_order
from test_first_order import trainer as first_trainer
from test_zero_order import loader
from test_zero_order import module as zero_order

from zolit.optim import ZOSGD, ZOConservative
from zolit.strategies import SVRG, ConstantQueries, GaussNewton, OneSided, TwoPoint
from zolit.training.module import TuningModule

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import batch

ROWS = len(batch("llama").labels)


def rows_seen(module: TuningModule) -> list[int]:
    """The rows of each call of the network from here on: a pass of both signs has twice as many."""
    seen: list[int] = []
    module.network.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(len(kwargs.get("input_ids", *args))), with_kwargs=True
    )
    return seen


@pytest.mark.parametrize(
    ("options", "passes"),
    [
        ({}, 2),
        ({"estimator": TwoPoint(paired=False), "query_scheduler": ConstantQueries(3)}, 6),
        ({"query_scheduler": ConstantQueries(3)}, 6),
        ({"estimator": OneSided(), "query_scheduler": ConstantQueries(3)}, 4),
        ({"estimator": GaussNewton(), "query_scheduler": ConstantQueries(3)}, 4),
        ({"micro_batches": 2}, 4),
        ({"optimizer": lambda params: ZOConservative(params, lr=1e-3)}, None),
        ({"estimator": SVRG()}, None),
    ],
    ids=[
        "pair",
        "two passes",
        "three pairs",
        "one-sided",
        "Gauss-Newton",
        "micro-batches",
        "conservative",
        "SVRG",
    ],
)
def test_zeroth_order_steps(options: dict[str, Any], passes: int | None) -> None:
    """What is counted is what the network has seen; and a known number where there is one."""
    module = zero_order(**{"optimizer": lambda params: ZOSGD(params, lr=1e-3), **options})
    seen = rows_seen(module)
    first_trainer(2).fit(module, loader())
    assert module.passes.backwards == 0
    assert sum(seen) == module.passes.forwards * ROWS
    assert passes is None or module.passes.forwards == 2 * passes


@pytest.mark.parametrize("again", [False, True])
def test_first_order_steps(again: bool) -> None:
    module = first_order(micro_batches=2, gradient_checkpointing=again)
    first_trainer(2).fit(module, Data().train_dataloader())
    assert (module.passes.forwards, module.passes.backwards) == (8 if again else 4, 4)


def test_validations_do_not_count() -> None:
    module = zero_order()
    run = first_trainer(1)
    run.validate(module, loader(), verbose=False)
    assert module.passes.forwards == 0
