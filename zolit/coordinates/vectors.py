"""Noise for vectors of different lengths, made by one call of a kernel.

A vector is cut into words of 32. Word w of a vector is row w of its noise, so that its coordinates
have the counters 0, 1, 2 and so on, like those of one long row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.noise import WORD


@dataclass(frozen=True)
class Vectors:
    """The words of V vectors, one vector after another.

    Attributes:
        lengths: length of each vector.
        counts: ``[V]`` int64 on the host, number of words of each vector.
        rows: ``[W]`` int32, number of each word within its vector.

    Example:
        >>> vectors = Vectors.of([40, 3], torch.device("cpu"))
        >>> vectors.rows.tolist(), vectors.shape
        ([0, 1, 0], (3, 1, 1, 32))
    """

    lengths: tuple[int, ...]
    counts: Tensor
    rows: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Vectors":
        """Lay out vectors of these lengths for kernels on a device."""
        counts = torch.tensor([-(-length // WORD) for length in lengths])
        starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
        rows = torch.arange(len(starts)) - starts
        return cls(tuple(lengths), counts, rows.to(device, torch.int32))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of all words as kernels take them: ``[W, 1, 1, WORD]``."""
        return len(self.rows), 1, 1, WORD

    def by_word(self, values: Tensor) -> Tensor:
        """Repeat a value of each vector, ``[V, ...]``, for each of its words: ``[W, ...]``."""
        return values.repeat_interleave(self.counts.to(values.device), dim=0)

    def joined(self, bits: Sequence[Tensor | None]) -> Tensor | None:
        """The bits of all vectors one after another, ``[W, 1]`` int32; None where all move.

        Args:
            bits: for each vector which coordinates move, ``[1, words]`` int32
                (`zolit.supports.Bits`); None where all do.
        """
        if all(one is None for one in bits):
            return None
        all_lanes = self.rows.new_full((int(self.counts.max()),), -1)
        parts = [
            all_lanes[:count] if one is None else one.flatten()
            for one, count in zip(bits, self.counts.tolist(), strict=True)
        ]
        return torch.cat(parts).unsqueeze(1)

    def by_coordinate(self, values: Sequence[Tensor | None]) -> Tensor | None:
        """A number of each coordinate of all vectors, ``[W, 32]`` float32; None for ones.

        Args:
            values: for each vector ``[1, 32 * words]``; None for ones.
        """
        if all(one is None for one in values):
            return None
        ones = torch.ones(int(self.counts.max()), WORD, device=self.rows.device)
        parts = [
            ones[:count] if one is None else one.view(-1, WORD)
            for one, count in zip(values, self.counts.tolist(), strict=True)
        ]
        return torch.cat(parts)

    def split(self, words: Tensor) -> list[Tensor]:
        """The vectors, each ``[..., length]``, as views of ``words``, ``[..., W, 1, 1, WORD]``."""
        parts = words.flatten(-4).split([WORD * count for count in self.counts.tolist()], dim=-1)
        return [part[..., :length] for part, length in zip(parts, self.lengths, strict=True)]
