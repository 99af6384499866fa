"""What a run has cost so far, over all its sessions."""

import time
from collections.abc import Sequence

import lightning as L

from zolit.gradient import Passes
from zolit.runs.metrics_file import Row

TOTALS = ("seconds", "forwards", "backwards")


class Costs:
    """Wall-clock and passes since a run began, as metrics.csv has them after each batch.

    ``seconds`` is wall-clock, with validations and checkpoints; ``forwards`` and ``backwards`` are
    those that the module counts (`Passes`). A run that is resumed adds to the totals of the step
    that it goes on from: what a killed process did after that step is left out.

    Example:
        >>> costs = Costs()
        >>> costs.take_up([{"step": 0.0, "seconds": 2.0, "forwards": 2.0}])
        >>> costs.start(None, step=1, at=time.perf_counter())
        >>> {name: int(value) for name, value in costs.so_far().items()}
        {'seconds': 2, 'forwards': 2}
    """

    def __init__(self) -> None:
        self._before: dict[str, float | None] = dict.fromkeys(TOTALS, 0.0)
        self._rows: int | None = None
        self._passes, self._base = Passes(), Passes()
        self._at = 0.0

    def take_up(self, rows: Sequence[Row]) -> None:
        """Go on from an earlier session.

        Args:
            rows: of its metrics.csv, up to the step from which the run goes on. A total that they
                lack, as those of an older zolit do, is not known of the whole run either.
        """
        self._rows = len(rows)
        if not rows:
            return
        known = {name: row[name] for row in rows for name in TOTALS if name in row}
        self._before = {name: known.get(name) for name in TOTALS}
        if "forwards" in known:  # they were counted, so there was no backward pass
            self._before["backwards"] = known.get("backwards", 0.0)

    def start(self, module: L.LightningModule | None, step: int, at: float) -> None:
        """A session begins.

        Args:
            module: that makes the steps; its passes are counted from here on.
            step: that it goes on from, 0 for a new run.
            at: `time.perf_counter` when fitting was started.
        """
        if self._rows == 0 and step:  # resumed without a metrics.csv
            self._before = dict.fromkeys(TOTALS)
        found = getattr(module, "passes", None)
        self._passes = found if isinstance(found, Passes) else Passes()
        self._base = Passes(self._passes.forwards, self._passes.backwards)
        self._at = at

    def so_far(self) -> dict[str, float]:
        """Each total by name; without those that are not known or counted nothing."""
        session = {
            "seconds": time.perf_counter() - self._at,
            "forwards": self._passes.forwards - self._base.forwards,
            "backwards": self._passes.backwards - self._base.backwards,
        }
        known = {name: one for name, one in self._before.items() if one is not None}
        totals = {name: one + session[name] for name, one in known.items()}
        return {name: one for name, one in totals.items() if one}
