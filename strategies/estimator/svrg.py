"""Slopes whose noise of the batch is measured at an anchor and taken off (SVRG)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor

from zolit.arguments import at_least, positive
from zolit.errors import UserError
from zolit.gradient import ProjectedGradient
from zolit.options import OnResume
from zolit.strategies.estimator.base import Estimate, Losses
from zolit.strategies.estimator.two_point import TwoPoint
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight, perturbed_weights

Anchor = dict[str, Tensor]
"""Copies of the tensors that move, by the name of the weight and of the tensor."""


class SVRG(TwoPoint):
    """`TwoPoint` with the batch's noise taken off by an anchor (MeZO-SVRG, arXiv 2404.08080).

    Every ``every`` steps the weights are copied, as the anchor A, and a step is made along slopes
    ``a_p`` over ``batches`` batches, along directions ``y_p``. The steps between go along ::

        g = 1/Q sum_q (d_q(theta) - d_q(A)) z_q + 1/P sum_p a_p y_p

    with slopes d of the same batch and along the same direction, at the weights and at the anchor.
    Their difference is small as long as the weights are near the anchor, and what the batch has of
    its own is in both. The directions of the anchor are made again from their keys.

    What a step needs of the past is in its keys and values, as of any other: a replay reads no
    anchor. A copy of the tensors that move is kept, and saved in checkpoints: of codes as many
    bytes as the codes have.

    Args:
        every: steps from one anchor to the next, 2 at least: the paper's q.
        batches: batches that the slopes at an anchor are averaged over, at most the rest of the
            epoch. The paper's "full batch" is a whole epoch.
        anchor_rate: factor of lr in the step at an anchor. The paper takes a larger rate there.
        paired: see `TwoPoint`.

    Raises:
        UserError: if an argument is out of range.

    Example:
        ::

            estimator:
              class_path: SVRG
              init_args:
                every: 5
                batches: 60 # an epoch of 1000 rows in batches of 16
    """

    # The journal says which steps were at an anchor, and what came of their batches.
    on_resume: ClassVar[Mapping[str, OnResume]] = {"batches": OnResume.FREE}

    def __init__(
        self, every: int = 5, batches: int = 16, anchor_rate: float = 1.0, paired: bool = True
    ) -> None:
        super().__init__(paired)
        self.every = at_least("every", every, 2, "use TwoPoint for none")
        self.anchor_batches = at_least("batches", batches, instead="try 16")
        self.anchor_rate = positive("anchor_rate", anchor_rate, "try 1.0")
        self.since = 0  # steps made with the anchor; 0: the next step is at a new one
        self.keys: list[int] = []
        self.slopes: list[float] = []
        self.anchor: Anchor = {}

    def directions(self, keys: list[int]) -> list[int]:
        return keys if self.since == 0 else [*keys, *self.keys]

    def batches(self, micro_batches: int) -> int:
        return max(micro_batches, self.anchor_batches) if self.since == 0 else micro_batches

    def estimate(
        self, losses: Losses, reading: Reading, keys: list[int], eps: float, pairable: bool
    ) -> Estimate:
        if self.since == 0:
            return super().estimate(losses, reading, keys, eps, pairable)
        own = keys[: len(keys) - len(self.keys)]
        here = super().estimate(losses, reading, own, eps, pairable)
        weights = perturbed_weights(losses.model)
        with self._at_anchor(weights), reading.same_batch():
            there = super().estimate(losses, reading, own, eps, pairable)
        differences = here.values - there.values
        kept = torch.tensor(self.slopes).to(differences)
        return Estimate(torch.cat((differences, kept)), here.loss)

    def combine(self, estimates: Sequence[Estimate]) -> Tensor:
        """The mean of the micro-batches, times what makes both sums means of their own.

        An optimizer divides by the number of all directions. If no difference is finite, nothing
        is: the step is skipped.
        """
        values = super().combine(estimates)
        if self.since == 0:
            return values
        own = values[: len(values) - len(self.keys)]
        good, kept = int(own.isfinite().sum()), len(self.keys)
        if good == 0:
            return torch.full_like(values, torch.nan)
        whole = good + kept
        return torch.cat((own * (whole / good), values[len(own) :] * (whole / kept)))

    def finish(self, values: Tensor) -> Tensor:
        if self.since > 0:
            return values
        self.slopes = values.tolist()
        return values * self.anchor_rate

    def before_step(self, gradient: ProjectedGradient, weights: Sequence[PerturbedWeight]) -> None:
        if self.since == 0:
            if len(gradient) == 0:  # every loss was NaN: the next step tries again
                return
            self.keys = [key & ((1 << 64) - 1) for key in gradient.keys.tolist()]
            for name, tensor in _moved(weights).items():
                if name in self.anchor:
                    self.anchor[name].copy_(tensor)
                else:
                    self.anchor[name] = tensor.clone()
        self.since = (self.since + 1) % self.every

    @contextmanager
    def _at_anchor(self, weights: Sequence[PerturbedWeight]) -> Iterator[None]:
        """Exchange the weights with the anchor inside this context."""
        moved = _moved(weights)
        sound = moved.keys() == self.anchor.keys() and all(
            one.shape == self.anchor[name].shape and one.dtype == self.anchor[name].dtype
            for name, one in moved.items()
        )
        if not sound:
            raise UserError(
                "ckpt_path: the anchor of SVRG in the checkpoint is of another model; use the "
                "config.yaml that stands beside the checkpoint"
            )
        self._exchange(moved)
        try:
            yield
        finally:
            self._exchange(moved)

    def _exchange(self, moved: dict[str, Tensor]) -> None:
        for name, tensor in moved.items():
            here = tensor.clone()
            tensor.copy_(self.anchor[name])
            self.anchor[name] = here

    def tensors(self) -> list[Tensor]:
        return list(self.anchor.values())

    def state_dict(self) -> dict[str, Any]:
        return {
            "since": self.since,
            "keys": list(self.keys),
            "slopes": list(self.slopes),
            "anchor": dict(self.anchor),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state that `state_dict` returned.

        Raises:
            UserError: if it is none.
        """
        if not _sound(state):
            raise UserError(
                "ckpt_path: the checkpoint does not hold the anchor of SVRG; use the config.yaml "
                "that stands beside the checkpoint"
            )
        self.since, self.keys = state["since"], list(state["keys"])
        self.slopes = list(state["slopes"])
        # The file of a checkpoint is mapped, and may be replaced while the run goes on.
        self.anchor = {name: tensor.clone() for name, tensor in state["anchor"].items()}


def _moved(weights: Sequence[PerturbedWeight]) -> dict[str, Tensor]:
    """The tensors that a step moves, not copied."""
    return {
        f"{weight.path}.{name}": tensor
        for weight in weights
        if weight.site is not None
        for name, tensor in weight.site.coordinates.moved_tensors(weight.store).items()
    }


def _sound(state: dict[str, Any]) -> bool:
    kinds = {"since": int, "keys": list, "slopes": list, "anchor": dict}
    if state.keys() != kinds.keys():
        return False
    if not all(isinstance(state[name], kind) for name, kind in kinds.items()):
        return False
    return (
        state["since"] >= 0
        and all(isinstance(key, int) for key in state["keys"])
        and all(isinstance(one, float) and math.isfinite(one) for one in state["slopes"])
        and len(state["slopes"]) == len(state["keys"])
        and all(isinstance(one, Tensor) for one in state["anchor"].values())
    )
