"""Stochastic gradient descent on a `ProjectedGradient`."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from zolit.arguments import Checked, in_unit_range
from zolit.gradient import ProjectedGradient
from zolit.optim.base import check_rate, open_rate_error
from zolit.options import OnResume
from zolit.tensors.feedback import Feedback
from zolit.tensors.update import move
from zolit.tensors.weight import PerturbedWeight


class ZOSGD(Checked, Optimizer):
    """Stochastic gradient descent along the directions of an estimate.

    ``theta <- SR(theta - lr / Q * sum_q values[q] * z_q)`` in units of the perturbed
    coordinate, ``SR`` stochastic rounding onto the grid of the stored format
    (MeZO arXiv 2305.17333 Alg. 1; QuZO arXiv 2502.12346). The 1/Q is the average over queries
    that the released QuZO code leaves out.

    Args:
        params: perturbed weights.
        lr: learning rate, in squared coordinate units per unit of loss. None leaves it to
            `ZeroOrderModule`, which takes the perturber's own (`Perturber.default_lr`) and says so.
        error_feedback: round to nearest and carry the rounding error to the next step, as QES
            (arXiv 2602.03120) does. Costs two bytes for each code. Without it rounding is
            stochastic, and its noise adds up over the steps. It starts from the errors of
            quantization if the quantizer has ``keep_error``; else a code stays until its moves add
            up to half a code.
        feedback_decay: factor of the carried residual each step. 1 loses nothing; QES takes 0.9,
            which forgets steps much shorter than half a code.

    Attributes:
        projected_gradient: declares that ``step`` takes ``gradient``, a `ProjectedGradient`. A
            `ZeroOrderModule` uses only optimizers that declare it.
        needs_lr: what ``lr`` counts, where there is no default for it and it must be given.

    Raises:
        UserError: if ``lr`` or ``feedback_decay`` is out of range.

    Example:
        >>> ZOSGD([torch.zeros(1)], lr=0.1).direction_factors(torch.tensor([1.0, -3.0]))
        tensor([ 0.5000, -1.5000])
    """

    projected_gradient: ClassVar[bool] = True
    needs_lr: ClassVar[str | None] = None
    takes: ClassVar[str] = "slopes"
    fitting: ClassVar[str] = "TwoPoint"
    # lr may change: the journal records the rates of each step.
    on_resume: ClassVar[Mapping[str, OnResume]] = {"lr": OnResume.FREE}

    state: defaultdict[Any, Any]  # by weight; what is not of one weight has a name

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float | None = None,
        error_feedback: bool = False,
        feedback_decay: float = 1.0,
    ) -> None:
        check_rate(lr)
        in_unit_range("feedback_decay", feedback_decay, "try 1.0")
        defaults = {"lr": lr, "error_feedback": error_feedback, "feedback_decay": feedback_decay}
        super().__init__(params, defaults)

    def direction_factors(self, values: Tensor) -> Tensor:
        """How far the weights go along each direction, before the learning rate.

        Where later steps go on along a direction (`ZOMomentum`), all of it is counted.

        Args:
            values: ``[Q]`` float32, the projected gradient.

        Returns:
            ``[Q]`` float32.
        """
        return values / values.numel()

    def moves(self, gradient: ProjectedGradient) -> tuple[Tensor, Tensor]:
        """The directions of a step, and how far it goes along each, before the learning rate.

        Called once a step.

        Args:
            gradient: the estimate, of at least one direction.

        Returns:
            ``[D]`` int64 keys and ``[D]`` float32 or float64 lengths. D may be 0: nothing moves.
        """
        return gradient.keys, self.direction_factors(gradient.values)

    def most_directions(self, queries: int) -> int:
        """The largest number of directions that a step goes along.

        Args:
            queries: directions of an estimate.
        """
        return queries

    def default_rate(self, lr: float) -> float:
        """The default of ``lr``.

        Args:
            lr: a good one for plain steps along the directions.
        """
        return lr

    def settle(self, lr: float) -> bool:
        """Set the learning rate of each parameter group that has none.

        Args:
            lr: a good one for plain steps along the directions.

        Returns:
            Whether a group had none.

        Raises:
            UserError: if one had none and must have it (``needs_lr``).
        """
        open_groups = [group for group in self.param_groups if group["lr"] is None]
        if open_groups and self.needs_lr is not None:
            raise open_rate_error(type(self).__name__, self.needs_lr, lr)
        for group in open_groups:
            group["lr"] = self.default_rate(lr)
        return bool(open_groups)

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        gradient: ProjectedGradient | None = None,
    ) -> Any:
        """Move every weight along the regenerated directions.

        Args:
            closure: evaluated first if given; its result is returned.
            gradient: the estimate. An empty one moves nothing.
        """
        result = None if closure is None else closure()
        if gradient is None or len(gradient) == 0:
            return result
        directions, factors = self.moves(gradient)
        keys = [key & ((1 << 64) - 1) for key in directions.tolist()]
        for group in self.param_groups:
            if group["lr"] is None:
                raise RuntimeError("lr was left open; settle(lr) gives one")
            coefficients = (-float(group["lr"]) * factors).tolist()
            weights = group["params"]
            feedbacks = [self._feedback(weight, group) for weight in weights]
            move(weights, keys, coefficients, gradient.rounding_key, feedbacks)
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`; torch alone would cast residuals to the dtype of their weight."""
        super().load_state_dict(state_dict)
        saved = [i for group in state_dict["param_groups"] for i in group["params"]]
        mine = [weight for group in self.param_groups for weight in group["params"]]
        for index, weight in zip(saved, mine, strict=True):
            residual = state_dict["state"].get(index, {}).get("residual")
            if residual is not None:
                self.state[weight]["residual"] = residual.to(weight.store.device, copy=True)

    def _feedback(self, weight: PerturbedWeight, group: dict[str, Any]) -> Feedback | None:
        site, store = weight.site, weight.store
        if not group["error_feedback"] or site is None or not site.coordinates.rounded:
            return None
        state = self.state[weight]
        if "residual" not in state:
            shape = (store.rows, store.padded_columns)
            state["residual"] = (
                torch.zeros(shape, dtype=torch.float16, device=store.device)
                if store.error is None
                else store.error
            )
            # Otherwise the first step could move a coordinate outside of the mask, by its error.
            site.support.clear_others(state["residual"], site.index)
            store.error = None  # the optimizer owns it from now on
        return Feedback(state["residual"], group["feedback_decay"])
