"""Which coordinates of a weight the directions of a run move: data that masks choose."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.errors import UserError
from zolit.kernels.rounding import lane_counters
from zolit.noise import BLOCKS, DRAWS, MASK, WORD, fold, hash_includes, lane_indices, split_key

_CHUNK_ELEMENTS = 1 << 20
"""Coordinates that are handled at once, with a few bytes for each beside the result."""


class Support:
    """Which coordinates of one weight move, in reads and in updates alike.

    A support is frozen data, and a replay makes it again. It stays the same for a whole run, or
    follows the values of its weight (`follow`).

    Example:
        >>> ALL.density, ALL.includes(key=7)
        (1.0, True)
    """

    @property
    def density(self) -> float:
        """Expected fraction of the coordinates that a direction moves, if it moves the weight."""
        return 1.0

    @property
    def importance_weight(self) -> float:
        """The inverse of the share of directions that move the weight; 1 where all do.

        An update multiplies its step along each of these directions by it, so that the estimate
        stays unbiased.
        """
        return 1.0

    def includes(self, key: int) -> bool:
        """Whether a direction moves any coordinate of the weight.

        Args:
            key: 64-bit key of the direction.
        """
        return True

    def words(self, site: int) -> tuple[int, int, int] | None:
        """The hash by which kernels choose the coordinates that move; None if no hash does.

        Args:
            site: index of the weight among the perturbed weights of the model.

        Returns:
            Two int32 key words of a hash, and how many of its `DRAWS` let a coordinate move.
        """
        return None

    def bits(self) -> Tensor | None:
        """Which coordinates move, one bit each, for kernels; None where no bits are kept.

        Returns:
            ``[rows, words]`` int32, see `Bits`.
        """
        return None

    def clear_others(self, values: Tensor, site: int) -> None:
        """Set to 0, in place, the values of coordinates that no direction moves.

        Args:
            values: ``[rows, 32 * words]``, one for each coordinate and for the padding.
            site: index of the weight among the perturbed weights of the model.
        """
        bits, words, width = self.bits(), self.words(site), values.shape[1]
        lane, most = lane_indices(values.device), max(1, _CHUNK_ELEMENTS // width)
        for start in range(0, len(values), most):
            stop = min(start + most, len(values))
            part = values[start:stop].view(-1, 1, width // WORD, WORD)
            if bits is not None:
                unset = ((bits[start:stop].view(part.shape[:3]).unsqueeze(3) >> lane) & 1) == 0
                part.masked_fill_(unset, 0)
            if words is not None:
                rows = torch.arange(start, stop, dtype=torch.int32, device=values.device)
                part.masked_fill_(~hash_includes(lane_counters(rows, part), words), 0)

    def follow(self, store: Any) -> bool:
        """Choose anew, in place, by the values that a stored weight has now.

        Called whenever it has moved, or was read from a checkpoint. Returns whether the choice
        depends on its values; by default it does not.
        """
        return False

    @property
    def identity(self) -> Tensor | None:
        """What tells a choice of single coordinates from another, the same for a whole run."""
        return self.bits()

    def on(self, device: torch.device) -> "Support":
        """The same support, with its tensors on another device."""
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
    """A random subset, the same for every direction. It is not stored: a hash decides.

    Attributes:
        fraction: of the coordinates that move, in (0, 1].
        key: 64-bit key that chooses them.
        spares_others: whether `clear_others` clears anything. False only where a run is repeated
            that did not (`zolit.runs.journal.earlier`).

    Example:
        >>> Hashed(0.25, key=7).density
        0.25
    """

    fraction: float
    key: int
    spares_others: bool = True

    @property
    def density(self) -> float:
        return self.fraction

    def words(self, site: int) -> tuple[int, int, int] | None:
        if self.fraction >= 1:
            return None
        # By the fraction as float32: it has always been compared with draws in float32.
        inside = math.ceil(float(np.float32(self.fraction)) * DRAWS)
        return *split_key(fold(self.key, site, MASK)), inside

    def clear_others(self, values: Tensor, site: int) -> None:
        if self.spares_others:
            super().clear_others(values, site)


@dataclass(frozen=True)
class Blocks(Support):
    """All coordinates of the weight move along some directions, and none along the others.

    A direction moves ``moving`` consecutive blocks of the model. Its key draws the first of them,
    and block 0 follows the last block.

    Attributes:
        block: number of the weight's block, from 0.
        count: number of blocks that hold a tuned weight.
        moving: number of blocks that a direction moves.

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
    """Any subset of the coordinates, the same for every direction, with a bit for each coordinate.

    Attributes:
        packed: ``[rows, words]`` int32: bit k of word w of a row says whether its column
            ``32 w + k`` moves. Columns are in the order of the stored weight, as noise numbers
            them. A vector is one row. Bits beyond the last column are 0.
        columns: number of columns of the coordinates; None where they fill the words.
        expected: the fraction that moves; read only on the meta device, where bits have no values.

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
        """The support of the coordinates that a ``[rows, columns]`` bool tensor marks."""
        rows, columns = chosen.shape
        packed = torch.empty(rows, -(-columns // WORD), dtype=torch.int32, device=chosen.device)
        lane = lane_indices(chosen.device)
        for part, to in zip(_chunks(chosen), _chunks(packed, columns), strict=True):
            lanes = F.pad(part, (0, -columns % WORD)).view(len(part), -1, WORD).to(torch.int32)
            to.copy_((lanes << lane).sum(2, dtype=torch.int32))
        return cls(packed, columns)

    @classmethod
    def on_meta(cls, shape: tuple[int, int], expected: float) -> "Bits":
        """A support without values, as large as one of coordinates of a shape."""
        words = torch.empty(shape[0], -(-shape[1] // WORD), dtype=torch.int32, device="meta")
        return cls(words, shape[1], expected)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the coordinates."""
        rows, words = self.packed.shape
        return rows, WORD * words if self.columns is None else self.columns

    @cached_property
    def count(self) -> int:
        """Number of coordinates that move."""
        found = torch.bincount(self.packed.view(torch.uint8).flatten(), minlength=256).tolist()
        return sum(number * byte.bit_count() for byte, number in enumerate(found))

    @property
    def density(self) -> float:
        """The exact fraction of coordinates that move; on the meta device the expected one."""
        return self.expected if self.packed.is_meta else self.count / math.prod(self.shape)

    def bits(self) -> Tensor:
        return self.packed

    def on(self, device: torch.device) -> "Bits":
        return self if self.packed.device == device else Bits(self.packed.to(device), self.columns)

    def chosen(self, rows: slice = slice(None)) -> Tensor:
        """Which coordinates of some rows move, ``[R, columns]`` bool; by default of all rows."""
        part = self.packed[rows]
        lanes = (part.unsqueeze(2) >> lane_indices(part.device)) & 1
        return lanes.bool().flatten(1)[:, : self.shape[1]]


def check_shape(path: str, support: Support, shape: tuple[int, int] | None) -> None:
    """Refuse bits that are not of the coordinates of a weight.

    Args:
        path: name of the weight.
        support: the mask's choice for it.
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
    """The rows of a matrix in chunks of about `_CHUNK_ELEMENTS` coordinates, as views.

    Args:
        values: ``[rows, ...]``.
        columns: coordinates of a row; None where they are the columns of ``values``.
    """
    return values.split(max(1, _CHUNK_ELEMENTS // (columns or values.shape[1])))


def support_table(supports: Sequence[tuple[int, Support]]) -> Tensor | None:
    """`Support.words` of many weights, for kernels that handle these together.

    Args:
        supports: the index of each weight's site, and its support.

    Returns:
        ``[len(supports), 3]`` int32; None where no support is chosen by a hash.
    """
    words = [support.words(site) for site, support in supports]
    if not any(words):
        return None
    return torch.tensor([one or (0, 0, DRAWS) for one in words], dtype=torch.int32)
