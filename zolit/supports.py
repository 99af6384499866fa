"""Which coordinates of a weight the directions of a run move, as data: what masks choose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from zolit.noise import BLOCKS, DRAWS, MASK, fold, split_key


class Support:
    """Which coordinates of one weight move, in reads and in updates alike.

    Frozen data: the same for the whole run, and made again by a replay.

    Example:
        >>> ALL.density, ALL.includes(key=7)
        (1.0, True)
    """

    @property
    def density(self) -> float:
        """Expected fraction of the weight's coordinates in a direction that moves the weight."""
        return 1.0

    @property
    def importance_weight(self) -> float:
        """How many directions it takes on average for one that moves the weight, 1 or more.

        An update counts each that many times, which leaves the estimate unbiased.
        """
        return 1.0

    def includes(self, key: int) -> bool:
        """Whether a direction moves any coordinate of the weight.

        Args:
            key: 64-bit key of the direction.
        """
        return True

    def words(self, site: int) -> tuple[int, int, int] | None:
        """What tells a kernel which coordinates stay: none do where this is None.

        Args:
            site: index of the weight among the perturbed weights of the model.

        Returns:
            Two int32 key words of a hash, and the number of its `DRAWS` that let a coordinate move.
        """
        return None


@dataclass(frozen=True)
class All(Support):
    """Every coordinate moves along every direction.

    Example:
        >>> All() == ALL
        True
    """


ALL = All()
"""The one that all weights without a mask share."""


@dataclass(frozen=True)
class Hashed(Support):
    """A random subset, the same for every direction and stored nowhere: membership is a hash.

    Attributes:
        fraction: of the coordinates that move, in (0, 1].
        key: 64-bit key that chooses them.

    Example:
        >>> Hashed(0.25, key=7).density
        0.25
    """

    fraction: float
    key: int

    @property
    def density(self) -> float:
        return self.fraction

    def words(self, site: int) -> tuple[int, int, int] | None:
        if self.fraction >= 1:
            return None
        # What float32 makes of the fraction: the draws below it have always been told so.
        inside = math.ceil(float(np.float32(self.fraction)) * DRAWS)
        return *split_key(fold(self.key, site, MASK)), inside


@dataclass(frozen=True)
class Blocks(Support):
    """Moves along the directions that draw the weight's block of the model, whole or not at all.

    The blocks of a direction follow one another from one that its key draws; behind the last comes
    the first.

    Attributes:
        block: number of the weight's block, from 0.
        count: blocks that hold a tuned weight.
        moving: blocks that a direction moves.

    Example:
        >>> Blocks(block=3, count=10, moving=2).importance_weight
        5.0
    """

    block: int
    count: int
    moving: int

    @property
    def importance_weight(self) -> float:
        return max(1.0, self.count / self.moving)

    def includes(self, key: int) -> bool:
        return (self.block - fold(key, BLOCKS)) % self.count < self.moving


def support_table(supports: Sequence[tuple[int, Support]]) -> Tensor | None:
    """`Support.words` of many weights, for kernels that take them together.

    Args:
        supports: the index of each weight's site, and its support.

    Returns:
        ``[len(supports), 3]`` int32; None where no weight leaves coordinates out by a hash.
    """
    words = [support.words(site) for site, support in supports]
    if not any(words):
        return None
    return torch.tensor([one or (0, 0, DRAWS) for one in words], dtype=torch.int32)
