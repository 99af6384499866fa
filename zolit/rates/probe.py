"""Reads the loss of a module along directions of its own, and counts the forward passes."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from zolit.caller import option, setting
from zolit.errors import UserError
from zolit.noise import fold
from zolit.rates.line import Line, look
from zolit.tensors.extent import relative_direction
from zolit.training.zero_order import ZeroOrderModule

_STREAM = 3
"""Of the run's seed: no step of a run has these directions."""


class Probe:
    """Numbered directions at the start weights, each with training batches of its own.

    Args:
        module: whose model is loaded and in eval mode; its weights stay as they are.
        batches: of training rows, on the module's device. Direction k takes batch k, in turn.

    Attributes:
        forwards: passes so far.
        batches: as given.
        longest: distance at which a direction has the length of the weights that move. No farther
            is read: what the loss does there says nothing of a model that is to be tuned.

    Raises:
        UserError: if there is no batch.

    Example:
        >>> Probe(module, batches).line(0, [1e-3, 2e-3]).rest  # doctest: +SKIP
        0.57
    """

    def __init__(self, module: ZeroOrderModule, batches: Sequence[Any]) -> None:
        if not batches:
            raise UserError("data: there is no training batch; give at least one row")
        self.module, self.batches = module, batches
        self.forwards = 0
        relative = relative_direction(module.weights)
        self.longest = 1 / relative if math.isfinite(relative) else math.inf

    def line(self, direction: int, distances: Sequence[float], batch: int | None = None) -> Line:
        """The loss along a direction.

        Args:
            direction: its number.
            distances: growing, in units of the coordinate.
            batch: number of the batch; by default that of the direction.
        """
        number = direction if batch is None else batch
        key = fold(self.module.seed, _STREAM, direction)
        self.forwards += 1 + 2 * len(distances)
        return look(self.module, self.batches[number % len(self.batches)], key, distances)

    def lines(self, directions: Iterable[int], distances: Sequence[float]) -> list[Line]:
        """The loss along several directions, each with its own batch."""
        return [self.line(direction, distances) for direction in directions]

    def slopes(self, directions: int, eps: float) -> Tensor:
        """The slopes of a step along some directions, as the module's estimator takes differences.

        Args:
            directions: their number. Each slope is the mean over ``micro_batches`` batches.
            eps: step of a read, in units of the coordinate.

        Returns:
            ``[directions]`` float64.
        """
        each = self.module.micro_batches
        one_sided = self.module.estimator.one_sided
        found = []
        for direction in range(directions):
            lines = [self.line(direction, [eps], direction * each + part) for part in range(each)]
            found.append(torch.cat([line.one if one_sided else line.both for line in lines]).mean())
        return torch.stack(found)


def first_eps(
    probe: Probe, directions: int = 4, effect: float = 0.05, rounds: int = 5, factor: float = 64.0
) -> float:
    """A distance at which a read changes the loss by a given share: where a search begins.

    Where eps is too short, what the dtype rounds away stands for the slope, and eps grows by less
    than it should, so it takes some rounds.

    Args:
        probe: reads the loss.
        directions: that are read along in each round.
        effect: share of the loss.
        rounds: at most so many.
        factor: that eps changes by at most in a round.

    Returns:
        In units of the coordinate; at most a tenth of the longest distance that is read.

    Raises:
        UserError: if the loss is not finite, or the same along all directions.
    """
    eps, moved = probe.module.perturber.eps, False
    for _ in range(rounds):
        lines = probe.lines(range(directions), [eps])
        loss = sum(abs(line.rest) for line in lines) / directions
        if not math.isfinite(loss):
            raise UserError(
                "find_lr: the loss of the untuned model is NaN or infinite on training rows; look "
                f"at the rows and the loss function, or set {setting('model.dtype', 'float32')}"
            )
        if not loss:
            raise UserError(
                "find_lr: the loss of the untuned model is 0 on training rows, of which no share "
                "can be told; there is nothing to lower"
            )
        before = eps
        if not all(line.finite for line in lines):
            eps /= factor
            continue
        slope = math.sqrt(sum(float(line.both[0]) ** 2 for line in lines) / directions)
        moved = moved or slope > 0
        wanted = effect * loss / slope if slope else math.inf
        eps = min(max(wanted, eps / factor), eps * factor, probe.longest / 10)
        if before / 2 <= eps <= before * 2:
            break
    if not moved:
        raise UserError(
            f"find_lr: the loss is the same at both ends of all directions, as far as {eps:g} units"
            f" of the coordinate; let {option('model.tune')} name weights that the loss depends on,"
            " or take an objective that is smooth"
        )
    return eps
