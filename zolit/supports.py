"""Which coordinates of a weight the directions of a run move, as data: what masks choose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.errors import UserError
from zolit.noise import BLOCKS, DRAWS, MASK, WORD, fold, lane_indices, split_key

_CHUNK_ELEMENTS = 1 << 20
"""Coordinates packed or unpacked at once: four bytes each are held beside the result."""


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
        """The hash by which a kernel knows which coordinates stay; None if no hash decides.

        Args:
            site: index of the weight among the perturbed weights of the model.

        Returns:
            Two int32 key words of a hash, and the number of its `DRAWS` that let a coordinate move.
        """
        return None

    def bits(self) -> Tensor | None:
        """Which coordinates move, one bit each, for kernels; None where no list of them is kept.

        Returns:
            ``[rows, words]`` int32, as of `Bits`.
        """
        return None

    def on(self, device: torch.device) -> "Support":
        """The same support, what it keeps on another device."""
        return self


@dataclass(frozen=True)
class All(Support):
    """Every coordinate moves along every direction.

    Example:
        >>> All() == ALL
        True
    """


ALL = All()
"""The support that all weights without a mask share."""


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
    """All coordinates move along a direction that draws the weight's block, and none along others.

    A direction moves consecutive blocks, from one that its key draws; the first block follows the
    last.

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


@dataclass(frozen=True, eq=False)
class Bits(Support):
    """Any subset of the coordinates, one bit each, the same for every direction.

    Attributes:
        packed: ``[rows, words]`` int32: bit l of word w of a row says whether its column
            ``32 w + l`` moves. Columns are those of the stored weight, as noise counts them. A
            vector is one row. Lanes beyond the last column are 0.
        columns: of the coordinates; None where they fill the words.
        expected: the share that moves, for the meta device, where there are no numbers.

    Example:
        >>> support = Bits.of(torch.tensor([[True, False, True], [False, False, True]]))
        >>> support.packed.tolist(), support.density
        ([[5], [4]], 0.5)
    """

    packed: Tensor
    columns: int | None = None
    expected: float = 1.0

    @classmethod
    def of(cls, chosen: Tensor) -> "Bits":
        """Pack ``[rows, columns]`` bool, which coordinates move."""
        rows, columns = chosen.shape
        packed = torch.empty(rows, -(-columns // WORD), dtype=torch.int32, device=chosen.device)
        lane = lane_indices(chosen.device)
        for part, to in zip(_chunks(chosen), _chunks(packed, columns), strict=True):
            lanes = F.pad(part, (0, -columns % WORD)).view(len(part), -1, WORD).to(torch.int32)
            to.copy_((lanes << lane).sum(2, dtype=torch.int32))
        return cls(packed, columns)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the coordinates."""
        rows, words = self.packed.shape
        return rows, WORD * words if self.columns is None else self.columns

    @cached_property
    def count(self) -> int:
        """Coordinates that move."""
        found = torch.bincount(self.packed.view(torch.uint8).flatten(), minlength=256).tolist()
        return sum(number * byte.bit_count() for byte, number in enumerate(found))

    @property
    def density(self) -> float:
        """The exact share; on the meta device the expected one."""
        return self.expected if self.packed.is_meta else self.count / math.prod(self.shape)

    def bits(self) -> Tensor:
        return self.packed

    def on(self, device: torch.device) -> "Bits":
        return self if self.packed.device == device else Bits(self.packed.to(device), self.columns)

    def chosen(self, rows: slice = slice(None)) -> Tensor:
        """Unpacked, ``[rows, columns]`` bool; of some rows ``[R, columns]``."""
        part = self.packed[rows]
        lanes = (part.unsqueeze(2) >> lane_indices(part.device)) & 1
        return lanes.bool().flatten(1)[:, : self.shape[1]]

    def clear_others(self, values: Tensor) -> None:
        """Set to 0 in place what belongs to coordinates that stay.

        Args:
            values: ``[rows, 32 * words]``, one for each lane.
        """
        lane = lane_indices(values.device)
        for part, packed in zip(
            _chunks(values), _chunks(self.packed, values.shape[1]), strict=True
        ):
            lanes = (packed.unsqueeze(2) >> lane) & 1
            part.masked_fill_(lanes.flatten(1) == 0, 0)


def check_shape(path: str, support: Support, shape: tuple[int, int] | None) -> None:
    """Refuse bits that do not name the coordinates of a weight.

    Args:
        path: name of the weight.
        support: what a mask chose for it.
        shape: rows and columns of its coordinates; None where they cannot be named one by one.

    Raises:
        UserError: naming both shapes.
    """
    bits = support.bits()
    if bits is None:
        return
    if shape is None:
        raise UserError(
            f"mask: names single coordinates of {path}, of which only all can move together; use "
            "NoMask, or CodePerturber or DensePerturber"
        )
    words = shape[0], -(-shape[1] // WORD)
    given = support.shape if isinstance(support, Bits) else (len(bits), WORD * bits.shape[1])
    if given != shape or tuple(bits.shape) != words or bits.dtype != torch.int32:
        raise UserError(
            f"mask: gives {path} bits for {given[0]}x{given[1]} coordinates in {tuple(bits.shape)} "
            f"{bits.dtype}, expected {shape[0]}x{shape[1]} in {words} torch.int32; use "
            "Bits.of(chosen) with a bool for each coordinate"
        )


def _chunks(values: Tensor, columns: int | None = None) -> tuple[Tensor, ...]:
    """Rows of a matrix in chunks of `_CHUNK_ELEMENTS` coordinates, as views.

    Args:
        values: ``[rows, ...]``.
        columns: coordinates of a row, where they are not the columns of ``values``.
    """
    return values.split(max(1, _CHUNK_ELEMENTS // (columns or values.shape[1])))


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
