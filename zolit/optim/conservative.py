"""Steps that are made only where they lower the loss (ZO-SGD-Cons)."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.optim.base import StepParts
from zolit.optim.sgd import ZOSGD
from zolit.strategies import CodePerturber, OneSided, TwoPoint


class ZOConservative(ZOSGD):
    """`ZOSGD` that keeps the best of no step, the step, and its opposite (ZO-SGD-Cons of ZO-Bench,
    arXiv 2402.11592).

    Three more reads of the batch show the loss at the weights as they are, after the step, and
    after the step the other way. The least of the three decides; the step itself wins ties, then
    the weights as they are. A loss of NaN never wins. It is the loss of one batch: what lowers it
    need not lower that of others.

    The losses are read along the direction, before any rounding onto the grid of stored codes: they
    are those of the step that is made on average. A step is recorded as it was decided, with its
    value, the opposite value, or no direction, so that a replay reads nothing.

    Args:
        params: perturbed weights.
        lr: see `ZOSGD`.
        error_feedback: see `ZOSGD`.
        feedback_decay: see `ZOSGD`.

    Raises:
        UserError: if an argument is out of range.

    Example:
        >>> optimizer = ZOConservative([torch.zeros(1)], lr=0.5)
        >>> losses = lambda lengths: torch.tensor([(x - 3.0) ** 2 for x in lengths])
        >>> optimizer.choose(torch.tensor([4.0]), losses)  # the loss falls the other way
        tensor([-4.])
    """

    def check(self, parts: StepParts) -> None:
        """Refuse runs in which the losses of a step cannot be read before it is made.

        Raises:
            UserError: naming both parts.
        """
        name, estimator = type(self).__name__, type(parts.estimator)
        if parts.queries != 1:
            raise UserError(
                f"optimizer: {name} reads the losses along one direction a step, got "
                f"query_scheduler with {parts.queries}; set query_scheduler.n: 1, or use ZOSGD"
            )
        if parts.micro_batches != 1:
            raise UserError(
                f"optimizer: {name} compares losses of one batch, got micro_batches "
                f"{parts.micro_batches}; set micro_batches: 1 and a larger data.batch_size, or use "
                "ZOSGD"
            )
        if estimator not in (TwoPoint, OneSided):
            raise UserError(
                f"optimizer: {name} needs slopes as they are measured, got estimator "
                f"{estimator.__name__}; use TwoPoint or OneSided, or ZOSGD with it"
            )
        if parts.quantizer.integer_products and isinstance(parts.perturber, CodePerturber):
            raise UserError(
                f"optimizer: {name} reads the codes after a step, which is a part of a code; "
                f"quantizer {type(parts.quantizer).__name__} with activations=int8 reads whole "
                "codes alone; leave out its activations, or use ZOSGD"
            )

    def choose(self, values: Tensor, losses_at: Callable[[Sequence[float]], Tensor]) -> Tensor:
        """The values of the step that is made.

        Args:
            values: ``[1]`` float32, the slope along the direction; ``[0]`` if it was skipped.
            losses_at: gives the loss at each of several lengths along the direction, in units of
                the coordinate.

        Returns:
            ``values``, ``-values``, or none of them.
        """
        if len(values) == 0:
            return values
        length = float(self.param_groups[0]["lr"]) * float(self.direction_factors(values)[0])
        losses = losses_at([-length, 0.0, length]).double().cpu()
        best = int(torch.where(losses.isnan(), torch.inf, losses).argmin())
        if not losses[best].isfinite():
            return values[:0]
        return (values, values[:0], -values)[best]
