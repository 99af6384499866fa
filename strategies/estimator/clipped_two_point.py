"""The central difference along each direction, clipped (DDC of QZO)."""

import math
from typing import Any

import torch
from torch import Tensor

from zolit.arguments import at_least, positive
from zolit.errors import UserError
from zolit.strategies.estimator.two_point import TwoPoint


class ClippedTwoPoint(TwoPoint):
    """`TwoPoint` with each projected gradient d clipped to ``[-C, C]``: directional derivative
    clipping, DDC (QZO, arXiv 2505.13430, Section 3.3).

    Clipping bounds the length of a step, however far a batch moves the loss. It removes most of the
    variance of a heavy tail, and makes the estimate biased, since the sign of d depends on z.

    Args:
        limit: C, in loss per unit of the coordinate. The paper's 100 is for absolute steps on the
            scales of Llama-2-7B; other units need another number. null lets C follow the run: it
            is then the ``quantile`` of ``|d|`` over the last ``window`` queries, those of the
            current step included.
        quantile: fraction of the queries that a C which follows the run leaves as they are, in
            (0, 1). The median withstands any tail. With Gaussian d it costs a sixth of the squared
            signal-to-noise ratio, and half of the step, for which lr can make up.
        window: number of queries from which such a C is taken.
        paired: see `TwoPoint`.

    Attributes:
        clipped_queries: number of queries that were clipped so far.
        recent: the sizes of the last queries before clipping, oldest first; empty with a fixed
            ``limit``.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> ClippedTwoPoint(limit=1.0).finish(torch.tensor([0.5, -3.0]))
        tensor([ 0.5000, -1.0000])
    """

    def __init__(
        self,
        limit: float | None = None,
        quantile: float = 0.5,
        window: int = 100,
        paired: bool = True,
    ) -> None:
        super().__init__(paired)
        if limit is not None:
            positive("limit", limit, "leave it out for the running quantile")
        if not 0 < quantile < 1:
            raise UserError(f"quantile must be in (0, 1), got {quantile}; try 0.5")
        at_least("window", window, 2, "try 100")
        self.limit = limit
        self.quantile = quantile
        self.window = window
        self.clipped_queries = 0
        self.recent: list[float] = []

    def finish(self, values: Tensor) -> Tensor:
        if len(values) == 0:
            return values
        sizes = values.abs()
        if self.limit is not None:
            bound = torch.tensor(self.limit)
        else:
            self.recent = [*self.recent, *sizes.tolist()][-self.window :]
            # "lower" does not interpolate towards the largest size, so that an outlier is clipped
            # from the second query on.
            bound = torch.quantile(torch.tensor(self.recent), self.quantile, interpolation="lower")
        self.clipped_queries += int((sizes > bound).sum())
        return values.clamp(-bound, bound)

    def metrics(self) -> dict[str, float]:
        return {"clipped_queries": float(self.clipped_queries)}

    def state_dict(self) -> dict[str, Any]:
        return {"clipped_queries": self.clipped_queries, "recent": list(self.recent)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state.keys() != {"clipped_queries", "recent"}:
            raise UserError(
                "ckpt_path: the checkpoint is of a run whose estimator was not ClippedTwoPoint; "
                "use the config.yaml that stands beside the checkpoint"
            )
        count, recent = state["clipped_queries"], state["recent"]
        if not (
            isinstance(count, int)
            and isinstance(recent, list)
            and all(isinstance(size, float) and math.isfinite(size) for size in recent)
        ):
            raise UserError(
                "ckpt_path: what the checkpoint says of ClippedTwoPoint is damaged; give another "
                "checkpoint of the run"
            )
        self.clipped_queries = count
        self.recent = list(recent)
