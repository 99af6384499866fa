"""Callbacks and figures that a run cannot have are refused before it begins."""

from typing import Any

import lightning as L
import pytest
from lightning.pytorch.callbacks import Callback, EarlyStopping, ModelCheckpoint

from zolit.callbacks.checks import check_callbacks
from zolit.errors import UserError


@pytest.mark.parametrize(
    ("name", "options", "instead"),
    [
        ("GradientAccumulationScheduler", {"scheduling": {0: 2}}, "micro_batches"),
        ("StochasticWeightAveraging", {"swa_lrs": 0.1}, "leave it out"),
        ("EMAWeightAveraging", {}, "leave it out"),
        ("LearningRateFinder", {}, "leave it out"),
        ("BatchSizeFinder", {}, "batch_size"),
        ("SpikeDetection", {}, "leave it out"),
        ("ModelPruning", {"pruning_fn": "l1_unstructured"}, "leave it out"),
    ],
)
def test_callbacks_that_take_the_step_over(name: str, options: Any, instead: str) -> None:
    callback = getattr(L.pytorch.callbacks, name)(**options)
    with pytest.raises(UserError, match=rf"callbacks: got {name}; .*{instead}"):
        check_callbacks([callback], [])


def test_figures_that_callbacks_watch() -> None:
    check_callbacks([EarlyStopping("val_loss"), ModelCheckpoint(monitor="step")], ["val_loss"])
    check_callbacks([EarlyStopping("clipped")], ["clipped"])
    with pytest.raises(UserError, match="monitor 'clipped'"):
        check_callbacks([ModelCheckpoint(monitor="clipped")], [])

    class Mine(Callback):
        """May log figures of its own."""

    check_callbacks([EarlyStopping("mine"), Mine()], [])
