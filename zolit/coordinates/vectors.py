"""Noise for vectors of many lengths, made by one call of a kernel.

A vector is cut into words. Word w of a vector is row w of its noise, so that its coordinates are
those of one long row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.noise import WORD


@dataclass(frozen=True)
class Vectors:
    """Where vectors lie among words of noise.

    Attributes:
        lengths: of each vector.
        counts: ``[V]`` int64 on the host, words of each vector.
        rows: ``[W]`` int32, the number of each word within its vector.
    """

    lengths: tuple[int, ...]
    counts: Tensor
    rows: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Vectors":
        """Lay out vectors of some lengths for kernels on a device."""
        counts = torch.tensor([-(-length // WORD) for length in lengths])
        starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
        rows = torch.arange(len(starts)) - starts
        return cls(tuple(lengths), counts, rows.to(device, torch.int32))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all words, as kernels take them: ``[W, 1, 1, WORD]``."""
        return len(self.rows), 1, 1, WORD

    def by_word(self, values: Tensor) -> Tensor:
        """What belongs to each vector, ``[V, ...]``, for each of its words, ``[W, ...]``."""
        return values.repeat_interleave(self.counts.to(values.device), dim=0)

    def joined(self, bits: Sequence[Tensor | None]) -> Tensor | None:
        """Which coordinates of all vectors move, ``[W, 1]`` int32; None where all of them do.

        Args:
            bits: of each vector, ``[1, words]`` int32 (`zolit.supports.Bits`); None where all move.
        """
        if all(one is None for one in bits):
            return None
        all_lanes = self.rows.new_full((int(self.counts.max()),), -1)
        parts = [
            all_lanes[:count] if one is None else one.flatten()
            for one, count in zip(bits, self.counts.tolist(), strict=True)
        ]
        return torch.cat(parts).unsqueeze(1)

    def split(self, words: Tensor) -> list[Tensor]:
        """The vectors ``[..., length]`` in ``[..., W, 1, 1, WORD]``, as views."""
        parts = words.flatten(-4).split([WORD * count for count in self.counts.tolist()], dim=-1)
        return [part[..., :length] for part, length in zip(parts, self.lengths, strict=True)]
