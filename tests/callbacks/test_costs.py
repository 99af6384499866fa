"""Wall-clock and passes of a run, over its sessions."""

import time
from typing import Any

import pytest

from zolit.callbacks.costs import Costs
from zolit.gradient import Passes

ROWS = [{"step": 0.0, "seconds": 5.0, "forwards": 2.0}, {"step": 0.0, "val_loss": 1.0}]


class Counting:
    def __init__(self) -> None:
        self.passes = Passes()


def session(costs: Costs, module: Any, step: int = 0, ago: float = 3.0) -> dict[str, float]:
    """The totals after a session of so many seconds with four passes forward and two back."""
    costs.start(module, step, time.perf_counter() - ago)
    module.passes.forwards += 4
    module.passes.backwards += 2
    return costs.so_far()


def test_a_new_run() -> None:
    module = Counting()
    module.passes.forwards = 100  # made before the run
    found = session(Costs(), module)
    assert found["seconds"] == pytest.approx(3.0, abs=1.0)
    assert (found["forwards"], found["backwards"]) == (4, 2)


def test_a_resumed_run_adds_to_the_last_row() -> None:
    costs = Costs()
    costs.take_up(ROWS)
    found = session(costs, Counting(), step=1)
    assert found["seconds"] == pytest.approx(8.0, abs=1.0)
    assert (found["forwards"], found["backwards"]) == (6, 2)


@pytest.mark.parametrize("rows", [[{"step": 0.0, "train_loss": 1.0}], []])
def test_what_is_not_known_of_the_first_session_is_not_known_of_the_run(rows: Any) -> None:
    costs = Costs()
    costs.take_up(rows)
    assert session(costs, Counting(), step=1) == {}


def test_a_run_that_was_killed_before_its_first_step() -> None:
    costs = Costs()
    costs.take_up([])
    assert session(costs, Counting(), step=0)["forwards"] == 4


def test_a_module_that_counts_nothing_has_no_passes() -> None:
    costs = Costs()
    costs.start(None, 0, time.perf_counter() - 1.0)
    assert list(costs.so_far()) == ["seconds"]
