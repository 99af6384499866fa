"""How far the layers of a model have moved from where they started (DiZO)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from zolit.formats.base import StoredWeight
from zolit.noise import LENGTHS, Direction, control_table, coordinates_at, fold


class Lengths:
    """Where some weights started, and the ratio by which each layer's way from there is to change.

    Args:
        anchors: by the number of a weight, the weight as it was when the run started.
        eps: step of a read, as a fraction of a layer's length.
        clip: how far a ratio may be from 1.

    Attributes:
        ratios: of each of these weights; all are 1 until they are learned.
        learning: whether the losses of this step are to be compared along ratios, and not along a
            direction of the weights.

    Example:
        >>> lengths = Lengths({}, eps=0.1, clip=0.2)
        >>> lengths.ratios, lengths.learning
        ({}, False)
    """

    def __init__(self, anchors: dict[int, StoredWeight], eps: float, clip: float) -> None:
        self.anchors, self.eps, self.clip = anchors, eps, clip
        self.ratios = dict.fromkeys(anchors, 1.0)
        self.learning = False

    def direction(self, key: int) -> dict[int, float]:
        """A normal number for each weight, by its number.

        Args:
            key: 64-bit key.
        """
        indices = list(self.anchors)
        control = control_table(fold(key, LENGTHS), [0])[0]
        counters = torch.tensor(indices, dtype=torch.int32)
        drawn = coordinates_at(Direction("gaussian"), control, counters).tolist()
        return dict(zip(indices, drawn, strict=True))

    def around(self, key: int) -> dict[int, tuple[float, float]]:
        """The ratios at plus and at minus a direction, by the number of the weight."""
        moves = {index: self.eps * n for index, n in self.direction(key).items()}
        return {
            index: (self.ratios[index] + m, self.ratios[index] - m) for index, m in moves.items()
        }

    def learn(self, steps: dict[int, float]) -> None:
        """Add to each ratio, within the bounds ``1 - clip`` and ``1 + clip``.

        Args:
            steps: by the number of the weight.
        """
        low, high = 1.0 - self.clip, 1.0 + self.clip
        for index, step in steps.items():
            self.ratios[index] = min(max(self.ratios[index] + step, low), high)

    def start_again(self) -> None:
        """Set all ratios to 1."""
        self.ratios = dict.fromkeys(self.anchors, 1.0)

    @contextmanager
    def as_if_learning(self) -> Iterator[None]:
        """Read along ratios inside this context, whatever the step."""
        before, self.learning = self.learning, True
        try:
            yield
        finally:
            self.learning = before
