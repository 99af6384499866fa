"""Steps whose way from the start is stretched or shortened layer by layer (DiZO)."""

import math
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import Any, ClassVar

import torch
from torch import Tensor

from zolit.coordinates.elements import move_rows
from zolit.coordinates.scales import SCALE_FLOOR
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.gradient import ProjectedGradient
from zolit.optim.sgd import ZOSGD
from zolit.tensors.lengths import Lengths
from zolit.tensors.site import Moving, Site
from zolit.tensors.step import Step, constant
from zolit.tensors.update import follow
from zolit.tensors.versions import moved_since
from zolit.tensors.weight import PerturbedWeight
from zolit.tensors.workspace import update_chunks

_U64 = (1 << 64) - 1
_ANCHOR = "anchor."
QUERY_AND_VALUE = ("*q_proj*", "*v_proj*", "*.query.*", "*.value.*")
"""The weights that the paper stretches, by their names in most models."""


class DiZO(ZOSGD):
    """`ZOSGD`, and after every ``interval`` steps the length of each layer's way is learned.

    Of a layer that started at theta_0 and is at theta, ``iterations`` steps learn a ratio r from
    losses alone: ``r <- clip(r - length_lr * d * n)`` with d the slope of the loss along n, one
    normal number for each layer, and r within ``1 - clip`` and ``1 + clip``. Weights rest
    meanwhile. Then each layer is moved to ``theta_0 + r (theta - theta_0)``, rounded as other
    updates are, and r is 1 again (Tan et al. 2025, arXiv 2502.03304: gamma of the paper is r times
    the length of ``theta - theta_0``).

    Each of these is a step of the run, on a batch of its own. What a layer started from is kept: a
    second copy of what moves of each weight that ``layers`` names.

    It needs the estimator `LayerLengths`. docs/methods/dizo.md says where the paper, its code and
    this differ.

    Args:
        params: perturbed weights.
        lr: see `ZOSGD`.
        layers: patterns of the names of the weights whose length is learned (``*`` and ``?``); by
            default the query and value projections, as in the paper.
        interval: steps between one learning of lengths and the next.
        iterations: steps that learn.
        length_eps: step of their reads, as a fraction of a layer's length.
        length_lr: their learning rate, in fractions of a length squared, per unit of loss.
        clip: tau of the paper: how far a ratio may be from 1.
        error_feedback: see `ZOSGD`.
        feedback_decay: see `ZOSGD`.

    Raises:
        UserError: if an argument is out of range, or ``layers`` names no weight that moves.

    Example:
        ::

            estimator: LayerLengths
            optimizer:
              class_path: DiZO
              init_args:
                lr: 1.0e-6
    """

    takes: ClassVar[str] = "slopes, also of the lengths of layers"
    fitting: ClassVar[str] = "LayerLengths"

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float | None = None,
        layers: list[str] | None = None,
        interval: int = 50,
        iterations: int = 10,
        length_eps: float = 0.1,
        length_lr: float = 2.0,
        clip: float = 0.2,
        error_feedback: bool = False,
        feedback_decay: float = 1.0,
    ) -> None:
        _check(interval, iterations, length_eps, length_lr, clip)
        super().__init__(params, lr, error_feedback, feedback_decay)
        layers = layers or list(QUERY_AND_VALUE)
        self.interval, self.iterations, self.length_lr = interval, iterations, length_lr
        for group in self.param_groups:
            group["steps"] = 0
        self._kept = {
            site.index: (weight, site)
            for weight in self._perturbed()
            if (site := weight.site) is not None
            and any(fnmatchcase(weight.path, pattern) for pattern in layers)
        }
        if self._perturbed() and not self._kept:
            raise UserError(
                f"optimizer DiZO: layers {layers} name none of the weights that move, such "
                f"as {self._perturbed()[0].path}; name some, or '*' for all"
            )
        for weight, site in self._kept.values():
            for name, tensor in site.coordinates.moved_tensors(weight.store).items():
                self.state[weight][_ANCHOR + name] = tensor.clone()
        self.lengths = Lengths(self._anchors(), length_eps, clip)
        for weight in self._perturbed()[:1]:
            weight.reading.lengths = self.lengths
        self._learned = False

    def moves(self, gradient: ProjectedGradient) -> tuple[Tensor, Tensor]:
        return gradient.keys, super().direction_factors(gradient.values)

    def direction_factors(self, values: Tensor) -> Tensor:
        """As in `ZOSGD`; none where the last step learned lengths."""
        return super().direction_factors(values[:0] if self._learned else values)

    @torch.no_grad()
    def step(
        self,
        closure: Callable[[], Any] | None = None,
        gradient: ProjectedGradient | None = None,
    ) -> Any:
        """Move along directions, or learn lengths, or learn them and go there."""
        if gradient is None:
            return super().step(closure)
        self._learned = self.lengths.learning
        if not self._learned:
            result = super().step(closure, gradient)
        else:
            result = None if closure is None else closure()
            self._learn(gradient)
            if self._steps % self._cycle == self._cycle - 1:
                self._stretch(gradient.rounding_key)
        for group in self.param_groups:
            group["steps"] += 1
        self.lengths.learning = self._steps % self._cycle >= self.interval
        return result

    def state_dict(self) -> dict[str, Any]:
        """With the ratios that are being learned, in the order of their weights."""
        return {**super().state_dict(), "ratios": list(self.lengths.ratios.values())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore `state_dict`: where layers started, and what is being learned of them."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "ratios"})
        number = {id(weight): n for n, weight in enumerate(self._perturbed())}
        ratios = state_dict.get("ratios")
        sound = isinstance(ratios, list) and len(ratios) == len(self._kept)
        for weight, site in self._kept.values():
            saved = state_dict["state"].get(number[id(weight)], {})
            for name, tensor in site.coordinates.moved_tensors(weight.store).items():
                found = saved.get(_ANCHOR + name)
                sound = sound and isinstance(found, Tensor) and found.shape == tensor.shape
                if sound:
                    self.state[weight][_ANCHOR + name] = found.to(tensor.device, tensor.dtype)
        if not sound:
            raise UserError(
                "ckpt_path: the checkpoint lacks what DiZO's layers started from; use the "
                "config.yaml that stands beside the checkpoint"
            )
        self.lengths.anchors = self._anchors()
        self.lengths.ratios = dict(zip(self._kept, map(float, ratios or []), strict=True))
        self.lengths.learning = self._steps % self._cycle >= self.interval

    @property
    def _steps(self) -> int:
        return int(self.param_groups[0]["steps"])

    @property
    def _cycle(self) -> int:
        return self.interval + self.iterations

    def _perturbed(self) -> list[PerturbedWeight]:
        every = [weight for group in self.param_groups for weight in group["params"]]
        return [one for one in every if isinstance(one, PerturbedWeight)]

    def _anchors(self) -> dict[int, StoredWeight]:
        """The weights as they were; what does not move of them they share."""
        found = {}
        for index, (weight, site) in self._kept.items():
            names = site.coordinates.moved_tensors(weight.store)
            then = {name: self.state[weight][_ANCHOR + name] for name in names}
            found[index] = weight.store.replace({**weight.store.tensors(), **then})
        return found

    def _learn(self, gradient: ProjectedGradient) -> None:
        steps = dict.fromkeys(self._kept, 0.0)
        factors = super().direction_factors(gradient.values).tolist()
        for key, factor in zip(gradient.keys.tolist(), factors, strict=True):
            for index, n in self.lengths.direction(key & _U64).items():
                steps[index] -= self.length_lr * factor * n
        self.lengths.learn(steps)

    def _stretch(self, rounding_key: int) -> None:
        """Move each layer to where its ratio puts it."""
        first = next(iter(self._kept.values()))[0]
        step = Step(first.reading, [], [], rounding_key, first.store.device)
        groups = {id(weight): group for group in self.param_groups for weight in group["params"]}
        for index, (weight, site) in self._kept.items():
            moving = Moving(weight.store, site, self._feedback(weight, groups[id(weight)]))
            further = self.lengths.ratios[index] - 1.0
            if further:
                _move(moving, self.lengths.anchors[index], further, step)
                follow(moving)
        self.lengths.start_again()


def _move(moving: Moving, anchor: StoredWeight, further: float, step: Step) -> None:
    """``weight += further * (weight - anchor)``, in place."""
    store, site = moving.store, moving.site
    if site.coordinates.rounded:
        in_weights = constant((0.0, 1.0), store.device)
        for rows in update_chunks(store):
            shape = torch.Size((rows.stop - rows.start, store.padded_columns))
            moved = moved_since(anchor, store, rows, shape, step.reading.preference)[1]
            move_rows(moving, step, rows, moved.mul_(further), in_weights)
        return
    _move_floats(store, site, anchor, further)


def _move_floats(store: StoredWeight, site: Site, anchor: StoredWeight, further: float) -> None:
    if "scale" in (names := site.coordinates.moved_tensors(store)):
        scale, then = names["scale"], anchor.scales()["scale"]
        store.multiply_scales(1.0 + further * (1.0 - then / scale), SCALE_FLOOR)
        return
    for name, tensor in names.items():
        tensor.add_(tensor - anchor.tensors()[name], alpha=further)


def _check(
    interval: int, iterations: int, length_eps: float, length_lr: float, clip: float
) -> None:
    for name, count in (("interval", interval), ("iterations", iterations)):
        if count < 1:
            raise UserError(f"{name} must be at least 1, got {count}")
    for name, value in (("length_eps", length_eps), ("length_lr", length_lr)):
        if not (math.isfinite(value) and value > 0):
            raise UserError(f"{name} must be a positive number, got {value}; try 0.1")
    if not 0 < clip < 1:
        raise UserError(f"clip must be in (0, 1), got {clip}; try 0.2")
