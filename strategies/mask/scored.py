"""Masks that give each coordinate a score and move those with the largest scores."""

import logging
import math
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Literal

import torch
from torch import Tensor

from zolit.arguments import in_unit_range
from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.formats.rows import chunks
from zolit.strategies.mask.base import Candidate, ElementMask
from zolit.strategies.mask.selection import Largest, largest_of_rows
from zolit.supports import Bits, Support

log = logging.getLogger(__name__)

Per = Literal["matrix", "row", "model"]

_CHUNK_ELEMENTS = 1 << 20
"""Scores that are made at once, so that their copies stay small."""


class ScoredMask(ElementMask):
    """Moves a fraction of the coordinates: those with the largest scores.

    Of equal scores the first ones move. Where a perturber moves scales, the score of a scale is the
    sum of the scores of its weights.

    Args:
        fraction: fraction of the coordinates that move, in (0, 1]. Their number is rounded down.
        per: whether this is a fraction of each ``matrix``, of each ``row`` of each matrix, or of
            the whole ``model``. In the last case a matrix may have any share of it.

    Raises:
        UserError: if ``fraction`` is out of range.

    Example:
        >>> from zolit.formats.dense import DenseWeight
        >>> class Rising(ScoredMask):
        ...     def scores(self, path, weight, rows):
        ...         return weight.decoded(rows)
        >>> weight = DenseWeight(torch.tensor([[3.0, -5.0, 1.0, 2.0]]))
        >>> Rising(0.5).choose("w", weight, 0, 1).chosen()
        tensor([[ True, False, False,  True]])
    """

    def __init__(self, fraction: float, per: Per = "matrix") -> None:
        self.fraction = in_unit_range("fraction", fraction, "try 0.001")
        self.per: Per = per

    @abstractmethod
    def scores(self, path: str, weight: StoredWeight, rows: slice) -> Tensor:
        """Scores of some rows of a weight, ``[R, columns]`` float32 in the model's order.

        Args:
            path: name of the parameter in the model.
            weight: as it is stored.
            rows: which rows.
        """

    def choose(self, path: str, weight: StoredWeight, block: int, blocks: int) -> Support:
        if self.per == "model":
            raise UserError(
                f"mask {type(self).__name__} compares all weights of a model with per: model, and "
                f"was asked for {path} alone; use per: matrix"
            )
        shape = weight.rows, weight.columns
        return self.choose_all([Candidate(path, weight, block, blocks, shape)])[0]

    def choose_all(self, candidates: Sequence[Candidate]) -> list[Support]:
        # Scores are computed again each time they are needed, so that only a chunk is in memory.
        each = [_Scores(self, one) for one in candidates]
        if self.per == "model":
            return self._of_model(each)
        return [self._of_one(one) for one in each]

    def _of_one(self, one: "_Scores") -> Support:
        in_rows = self.per == "row" and one.shape[0] > 1
        length = one.shape[1] if in_rows else one.count
        where = f"a row of {one.path}" if in_rows else one.path
        count = self.count_of(length, where)
        if one.on_meta:
            return Bits.on_meta(one.shape, self.fraction)
        if in_rows:
            return one.packed(largest_of_rows(part, count) for part in one.parts())
        largest = Largest(one.parts, length, count)
        if largest.all_equal and count < length:
            raise UserError(
                f"mask {type(self).__name__}: all scores of {one.path} are equal, so that nothing "
                "says which of its coordinates to move; use RandomMask, or take it out of `tune`"
            )
        self.tell_ties(largest.ties, one.path)
        return one.packed(map(largest.of, one.parts()))

    def _of_model(self, each: Sequence["_Scores"]) -> list[Support]:
        total = sum(one.count for one in each)
        count = self.count_of(total, "the model")
        if any(one.on_meta for one in each):
            return [Bits.on_meta(one.shape, self.fraction) for one in each]
        largest = Largest(lambda: (part for one in each for part in one.parts()), total, count)
        self.tell_ties(largest.ties, "the model")
        supports = [one.packed(map(largest.of, one.parts())) for one in each]
        still = [one.path for one, support in zip(each, supports, strict=True) if not support.count]
        if still:
            log.warning(
                "%s moves %d of the model's %d coordinates, and none of %d weights (%s)",
                type(self).__name__,
                count,
                total,
                len(still),
                ", ".join(still[:3]) + (", ..." if len(still) > 3 else ""),
            )
        return list(supports)

    def count_of(self, length: int, where: str) -> int:
        """How many of some coordinates move.

        Args:
            length: how many there are.
            where: which weight they belong to, for the message.

        Raises:
            UserError: if none does.
        """
        count = int(length * self.fraction)
        if count == 0:
            raise UserError(
                f"fraction: {self.fraction} of the {length} coordinates of {where} leaves none; "
                f"use at least 1/{length}, or take the weight out of `tune`"
            )
        return count

    def tell_ties(self, ties: int, where: str) -> None:
        """Log how many coordinates are left out that score as high as one that moves."""
        # Codes of few bits have few values. Which of the equal ones move is decided by their place.
        if ties:
            log.info(
                "%s: %d more coordinates of %s score as high as the last that moves",
                type(self).__name__,
                ties,
                where,
            )


class _Scores:
    """The scores of one weight's coordinates, in the order in which noise numbers them."""

    def __init__(self, mask: ScoredMask, candidate: Candidate) -> None:
        self._mask, self.path, self._weight = mask, candidate.path, candidate.weight
        self.shape = candidate.shape or (self._weight.rows, self._weight.columns)
        self.count = math.prod(self.shape)
        self._in_a_row = self.count // self._weight.rows

    @property
    def on_meta(self) -> bool:
        return self._weight.device.type == "meta"

    def parts(self) -> Iterator[Tensor]:
        """``[R, coordinates of a row]`` float32, chunk by chunk.

        Raises:
            UserError: if one is NaN.
        """
        weight = self._weight
        for rows in chunks(weight.rows, max(1, _CHUNK_ELEMENTS // weight.columns)):
            scores = weight.in_stored_order(self._mask.scores(self.path, weight, rows))
            if scores.isnan().any():
                raise UserError(
                    f"mask {type(self._mask).__name__}: a score of {self.path} is NaN, expected "
                    "numbers; look for what made it"
                )
            if self._in_a_row != weight.columns:
                groups = scores.double().view(len(scores), self._in_a_row, -1)
                scores = groups.sum(2).float()
            yield scores

    def packed(self, chosen: Iterator[Tensor]) -> Bits:
        """The support of the coordinates that were chosen, ``chosen`` for each of the `parts`."""
        if self.shape[1] != self._in_a_row:  # one scale for each row: together they are a vector
            return Bits.of(torch.cat(list(chosen)).view(self.shape))
        return Bits(torch.cat([Bits.of(part).packed for part in chosen]), self.shape[1])
