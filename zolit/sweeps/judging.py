"""Which points of a sweep are better, by their validations."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zolit.sweeps.halving import Rank

VAL = "val_"
"""Names of figures of validation begin so."""

When = Literal["last", "best"]


@dataclass(frozen=True)
class Judge:
    """Ranks points by a figure of validation, and ties by the others.

    Attributes:
        by: the figure, such as ``val_loss``.
        modes: of each figure, with its stage, ``min`` or ``max``.
    """

    by: str
    modes: Mapping[str, str]

    def rank(self, known: Sequence[Mapping[str, Any]], when: When) -> Rank:
        """Of the points of a choice, which differ by seed alone: the mean of each figure.

        Args:
            known: what is known of each point (`noted`).
            when: the last validation, which says whether more steps are worth it; or the best,
                whose checkpoint a run keeps.

        Returns:
            Larger is better. A figure that is missing, NaN or infinite in one point is the worst.
        """
        names = [self.by, *(name for name in self.modes if name != self.by)]
        return tuple(self._mean(name, known, when) for name in names)

    def figure(self, known: Mapping[str, Any], when: When) -> float | None:
        """The deciding figure of a point; None if it is not finite."""
        found = known[when].get(self.by)
        return found if isinstance(found, int | float) and math.isfinite(found) else None

    def _mean(self, name: str, known: Sequence[Mapping[str, Any]], when: When) -> float:
        values = [one[when].get(name) for one in known]
        if any(one is None or not math.isfinite(one) for one in values):
            return -math.inf
        mean = math.fsum(values) / len(values)
        return -mean if self.modes.get(name, "min") == "min" else mean


def noted(summary: Mapping[str, Any]) -> dict[str, Any] | None:
    """What a sweep notes of a point, from its summary.json; None if it made no validation.

    Returns:
        ``steps`` made, ``seconds`` of wall-clock, figures of the ``last`` and of the ``best``
        validation, and ``at``, the step of the best.
    """
    last = {n: v for n, v in (summary.get("validation") or {}).items() if n.startswith(VAL)}
    if not last:
        return None
    best = summary.get("best") or {"step": summary.get("validation_step"), **last}
    return {
        "steps": summary.get("steps"),
        "seconds": summary.get("fit_seconds"),
        "last": last,
        "best": {name: value for name, value in best.items() if name.startswith(VAL)},
        "at": best.get("step"),
    }
