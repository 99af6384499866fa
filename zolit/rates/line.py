"""The loss of a batch along a direction, on both sides and at several distances."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zolit.noise import fold
from zolit.strategies import Losses
from zolit.training.zero_order import ZeroOrderModule


@dataclass(frozen=True)
class Line:
    """Losses of one batch along one direction z.

    Attributes:
        distances: ``[S]`` float64, in units of the coordinate, growing.
        rest: loss at the stored weights.
        rises: ``[S]`` float64, the mean loss of both sides less ``rest``. Of a parabola it is
            ``distance**2 / 2 * z'Hz``.
        both: ``[S]`` float64, slope by the difference of both sides.
        one: ``[S]`` float64, slope by the difference of one side and ``rest``.

    Example:
        >>> steps = torch.tensor([0.1, 0.2], dtype=torch.float64)
        >>> parabola = Line(steps, 1.0, 2 * steps**2, both=3 + 0 * steps, one=3 + 2 * steps)
        >>> parabola.finite
        2
    """

    distances: Tensor
    rest: float
    rises: Tensor
    both: Tensor
    one: Tensor

    @property
    def finite(self) -> int:
        """How many distances, from the shortest, have finite losses up to there."""
        good = (self.rises + self.both + self.one).isfinite()
        return int(good.int().cumprod(0).sum())

    def up_to(self, count: int) -> "Line":
        """The same line with its first distances alone."""
        parts = (self.rises, self.both, self.one)
        return Line(self.distances[:count], self.rest, *(part[:count] for part in parts))

    def joined(self, further: "Line") -> "Line":
        """The same line with the distances of another one of its batch and direction behind."""
        names = ("distances", "rises", "both", "one")
        pairs = {name: (getattr(self, name), getattr(further, name)) for name in names}
        return Line(rest=self.rest, **{name: torch.cat(pair) for name, pair in pairs.items()})


@torch.no_grad()
def look(module: ZeroOrderModule, batch: Any, key: int, distances: Sequence[float]) -> Line:
    """Read the loss of a batch along a direction; the weights stay as they are.

    Each distance takes two forward passes, and the stored weights one.

    Args:
        module: whose model is loaded and in eval mode.
        batch: of its data, on its device.
        key: 64 bits, of the direction and of the random numbers of the objective.
        distances: growing, in units of the coordinate.
    """
    objective, reading = module.objective, module.reading
    losses = Losses(objective, module.network, objective.draw(batch, fold(key, 1)))
    rises, both, one = [], [], []
    with reading.same_batch():
        stored = losses.read()
        rest = float(losses.compare([stored])[0])
        for distance in distances:
            sides = []
            for sign in (1.0, -1.0):
                with reading.perturbed(key, sign * distance, copies=1):
                    sides.append(losses.read())
            alone = [float(losses.compare([side])[0]) for side in sides]
            rises.append(sum(alone) / 2 - rest)
            # What a step sees: objectives may compare the two reads of a difference.
            ahead, behind = losses.compare(sides).double().tolist()
            both.append((ahead - behind) / (2 * distance))
            start, end = losses.compare([stored, sides[0]]).double().tolist()
            one.append((end - start) / distance)

    def exact(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float64)

    return Line(exact(distances), rest, exact(rises), exact(both), exact(one))
