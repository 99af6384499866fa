"""Adam along directions, with one second moment for all coordinates."""

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.optim.past import NAME, after_step, check_decay, check_past, decayed, nothing, remembered
from zolit.optim.sgd import ZOSGD

_MOMENT = "moment"


class ZOAdam(ZOSGD):
    """Adam on estimates, without a number for each coordinate (ZO-Adam, arXiv 2402.11592).

    Adam keeps two moments of each coordinate's gradient ``g = 1/Q sum_q values[q] * z_q``. Here the
    first is a list of earlier directions, made again from their keys (`ZOMomentum`). The second is
    one number for all coordinates: the mean of ``g_i**2`` over directions is
    ``s = sum_q (values[q] / Q)**2`` for each of them, since directions have variance 1 and are
    drawn apart. ::

        m = (1 - beta1) * sum_k beta1**k * g_(t-k) / (1 - beta1**t)
        v = (1 - beta2) * sum_k beta2**k * s_(t-k) / (1 - beta2**t)
        theta <- theta - lr * m / (sqrt(v) + eps)

    With signs (Rademacher) and one direction a step ``g_i**2`` is the same for all coordinates:
    this then equals Adam, but for the directions that ``tolerance`` leaves out. Else Adam has
    ``g_i**2`` itself. Of the gradient G its mean is ``|G|**2 / Q`` for every coordinate, and
    ``2 G_i**2`` more at most, which is little where there are many coordinates (arXiv 2605.03869
    reports the same of real models).

    Args:
        params: perturbed weights.
        lr: about how far a step moves each coordinate, in its unit. It has no default.
        beta1: decay of the first moment, in [0, 1).
        beta2: decay of the second moment, in [0, 1).
        eps: added to the root of the second moment, in units of a projected gradient.
        tolerance: part of the weight of the first moment that may be left out, in (0, 1).
        error_feedback: see `ZOSGD`.
        feedback_decay: see `ZOSGD`.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> ZOAdam([torch.zeros(1)], lr=0.1).most_directions(queries=1)
        44
    """

    needs_lr: ClassVar[str | None] = (
        "how far a step moves each coordinate, about, in units of the coordinate"
    )

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float | None = None,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        tolerance: float = 0.01,
        error_feedback: bool = False,
        feedback_decay: float = 1.0,
    ) -> None:
        check_decay("beta1", beta1)
        check_decay("beta2", beta2)
        if not (math.isfinite(eps) and eps >= 0):
            raise UserError(f"eps must be a number from 0, got {eps}; try 1e-8")
        super().__init__(params, lr, error_feedback, feedback_decay)
        self.beta1, self.beta2, self.eps = beta1, beta2, eps
        self.steps = remembered(beta1, tolerance)
        self.state[NAME] = nothing()
        self.state[_MOMENT] = {
            "second": torch.zeros((), dtype=torch.float64),
            "steps": torch.zeros((), dtype=torch.int64),
        }

    def direction_factors(self, values: Tensor) -> Tensor:
        """As in `ZOSGD`, with the second moment as it is after the last step."""
        moment = self.state[_MOMENT]
        steps = int(moment["steps"])
        if steps == 0:
            return torch.zeros_like(values)
        return (super().direction_factors(values).double() / self._root(steps)).to(values.dtype)

    def moves(self, gradient: ProjectedGradient) -> tuple[Tensor, Tensor]:
        factors = super().direction_factors(gradient.values)
        past = after_step(self.state[NAME], gradient.keys, factors, self.steps)
        self.state[NAME] = past
        moment = self.state[_MOMENT]
        steps = int(moment["steps"]) + 1
        square = factors.double().square().sum().cpu()
        moment["second"] = self.beta2 * moment["second"] + (1 - self.beta2) * square
        moment["steps"] = torch.tensor(steps)
        root = self._root(steps)
        if not root > 0:  # every value so far was 0
            return past["keys"][:0], past["factors"][:0]
        first = (1 - self.beta1) / (1 - self.beta1**steps) * decayed(past, self.beta1)
        return past["keys"], first / root

    def _root(self, steps: int) -> float:
        second = float(self.state[_MOMENT]["second"]) / (1 - self.beta2**steps)
        return math.sqrt(second) + self.eps

    def most_directions(self, queries: int) -> int:
        return self.steps * queries

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`.

        Raises:
            UserError: if it does not hold the moments.
        """
        past = check_past(state_dict["state"].get(NAME))
        moment = _checked(state_dict["state"].get(_MOMENT))
        super().load_state_dict(state_dict)
        self.state[NAME], self.state[_MOMENT] = past, moment


def _checked(found: Any) -> dict[str, Tensor]:
    names = {"second": torch.float64, "steps": torch.int64}
    sound = isinstance(found, dict) and all(
        isinstance(found.get(name), Tensor)
        and found[name].dtype == dtype
        and found[name].dim() == 0
        and bool(torch.isfinite(found[name]))
        and found[name] >= 0
        for name, dtype in names.items()
    )
    if not sound:
        raise UserError(
            "ckpt_path: the checkpoint does not hold the second moment that ZOAdam goes on from; "
            "use the config.yaml that stands beside the checkpoint"
        )
    return {name: found[name].cpu() for name in names}
