"""Gradient descent with momentum, whose buffer is a list of keys."""

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from zolit.gradient import ProjectedGradient
from zolit.optim.past import NAME, after_step, check_decay, check_past, decayed, nothing, remembered
from zolit.optim.sgd import ZOSGD


class ZOMomentum(ZOSGD):
    """`ZOSGD` with heavy-ball momentum (ZO-SGD-MMT of ZO-Bench, arXiv 2402.11592).

    ``m <- momentum * m + g``, ``theta <- theta - lr * m``, as `torch.optim.SGD` has it, g being
    ``1/Q sum_q values[q] * z_q``. The buffer m is not kept: it is a sum of earlier directions, each
    a key and a number, and a step makes them again. Directions that have decayed to less than
    ``tolerance`` are left out. So the state takes 20 bytes a direction, and an update makes 44
    times as many directions by default. That is little where few coordinates move (scales,
    adapters, single entries) or directions have low rank, and much for all codes or floats of a
    model; see `docs/methods/momentum.md`.

    A step whose losses were all NaN moves nothing, and does not count as a step of the decay.

    Args:
        params: perturbed weights.
        lr: see `ZOSGD`. Momentum multiplies what a gradient moves by ``1 / (1 - momentum)``: the
            default is that of `ZOSGD` divided by this factor.
        momentum: factor of the earlier moves at each step, in [0, 1).
        tolerance: part of the weight of all earlier moves that may be left out, in (0, 1).
        error_feedback: see `ZOSGD`.
        feedback_decay: see `ZOSGD`.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> import torch
        >>> ZOMomentum([torch.zeros(1)], lr=0.1).most_directions(queries=2)
        88
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float | None = None,
        momentum: float = 0.9,
        tolerance: float = 0.01,
        error_feedback: bool = False,
        feedback_decay: float = 1.0,
    ) -> None:
        check_decay("momentum", momentum)
        super().__init__(params, lr, error_feedback, feedback_decay)
        self.momentum = momentum
        self.steps = remembered(momentum, tolerance)
        self.state[NAME] = nothing()

    def default_rate(self, lr: float) -> float:
        return lr * (1 - self.momentum)

    def direction_factors(self, values: Tensor) -> Tensor:
        return super().direction_factors(values) / (1 - self.momentum)

    def moves(self, gradient: ProjectedGradient) -> tuple[Tensor, Tensor]:
        factors = super().direction_factors(gradient.values)
        past = after_step(self.state[NAME], gradient.keys, factors, self.steps)
        self.state[NAME] = past
        return past["keys"], decayed(past, self.momentum)

    def most_directions(self, queries: int) -> int:
        return self.steps * queries

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`.

        Raises:
            UserError: if it does not hold the earlier directions.
        """
        past = check_past(state_dict["state"].get(NAME))
        super().load_state_dict(state_dict)
        self.state[NAME] = past
