"""Patterns of zeros: how many entries of a weight are left, and where they may be."""

from abc import ABC, abstractmethod
from typing import Literal

import torch
from torch import Tensor

from zolit.errors import UserError


class Pattern(ABC):
    """How many entries of a matrix become zero, and among which ones they are chosen.

    Example:
        >>> class FirstHalf(Pattern):
        ...     def keep(self, scores):
        ...         kept = torch.zeros_like(scores, dtype=torch.bool)
        ...         kept[:, : scores.shape[1] // 2] = True
        ...         return kept
        >>> FirstHalf().keep(torch.zeros(1, 4)).tolist()
        [[True, True, False, False]]
    """

    @property
    def title(self) -> str:
        """The pattern in a few words."""
        return type(self).__name__

    def check(self, path: str, columns: int) -> None:  # noqa: B027 (most matrices will do)
        """Refuse a matrix that cannot have this pattern, before anything is pruned.

        Args:
            path: name of the weight.
            columns: its number of input channels.

        Raises:
            UserError: naming both.
        """

    def group(self, most: int) -> int:
        """How many neighbouring columns are chosen among together, where columns come in turn.

        Args:
            most: columns that the method would take at once.
        """
        return most

    @abstractmethod
    def keep(self, scores: Tensor) -> Tensor:
        """Which entries are left.

        Args:
            scores: ``[rows, columns]`` float, of a matrix or of whole groups of its columns. The
                lowest are pruned; of equal ones the first.

        Returns:
            ``[rows, columns]`` bool.
        """


class Ratio(Pattern):
    """Any entries: a fraction of each row, or of the whole matrix, is pruned.

    Args:
        ratio: fraction of the entries that become zero, in [0, 1). Their number is rounded down.
        per: whether it is a fraction of each ``row`` (an output channel), as Wanda has it, or of
            the ``matrix``.

    Raises:
        UserError: if ``ratio`` is out of range.

    Example:
        >>> Ratio(0.5).keep(torch.tensor([[4.0, 1.0, 3.0, 2.0]])).tolist()
        [[True, False, True, False]]
    """

    def __init__(self, ratio: float = 0.5, per: Literal["row", "matrix"] = "row") -> None:
        if not 0 <= ratio < 1:
            raise UserError(
                f"ratio: got {ratio}, expected the fraction that becomes zero, from 0 to below 1; "
                "try 0.5"
            )
        if per not in ("row", "matrix"):
            raise UserError(f"per: got {per!r}, expected row or matrix; try row")
        self.ratio = ratio
        self.per = per

    @property
    def title(self) -> str:
        return f"{self.ratio:g} of each {self.per}"

    def keep(self, scores: Tensor) -> Tensor:
        flat = scores if self.per == "row" else scores.reshape(1, -1)
        # Rounded first: 0.29 * 100 is a little less than 29 in floats.
        pruned = int(round(flat.shape[1] * self.ratio, 6))
        return lowest_pruned(flat, pruned).view_as(scores)


class NofM(Pattern):
    """N:M: of each M neighbouring input channels of a row at most N are left.

    Args:
        n: entries of a group that are left, from 1 to ``m``.
        m: entries of a group.

    Raises:
        UserError: if a number is out of range.

    Example:
        >>> NofM(1, 2).keep(torch.tensor([[4.0, 1.0, 2.0, 3.0]])).tolist()
        [[True, False, False, True]]
    """

    def __init__(self, n: int = 2, m: int = 4) -> None:
        if m < 1:
            raise UserError(f"m: got {m}, expected the size of a group, at least 1; try 4")
        if not 1 <= n <= m:
            raise UserError(
                f"n: got {n}, expected how many of m={m} entries are left, from 1 to {m}; try "
                f"{max(1, m // 2)}"
            )
        self.n = n
        self.m = m

    @property
    def title(self) -> str:
        return f"{self.n}:{self.m}"

    def check(self, path: str, columns: int) -> None:
        if columns % self.m:
            raise UserError(
                f"m: got {self.m}, which does not divide the {columns} input channels of {path}; "
                "take another m, or the pattern Ratio"
            )

    def group(self, most: int) -> int:
        return self.m

    def keep(self, scores: Tensor) -> Tensor:
        return lowest_pruned(scores.reshape(-1, self.m), self.m - self.n).view_as(scores)


def lowest_pruned(scores: Tensor, pruned: int) -> Tensor:
    """All entries of each row but the lowest.

    Args:
        scores: ``[rows, columns]`` float.
        pruned: how many of a row are left out; of equal ones the first.

    Returns:
        ``[rows, columns]`` bool.
    """
    kept = torch.ones(scores.shape, dtype=torch.bool, device=scores.device)
    places = scores.argsort(dim=1, stable=True)[:, :pruned]
    return kept.scatter_(1, places, False)
