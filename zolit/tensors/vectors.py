"""Noise for vectors of many lengths, made by one call of a kernel.

A vector is cut into blocks of one shape. Block b of a vector is row b of its noise, so that its
coordinates are those of one long row, however it is cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.noise import WORD

WIDTH = 16 * WORD
"""Coordinates in a block."""


def padded(length: int) -> int:
    """The length of a vector that fills its blocks."""
    return -(-length // WIDTH) * WIDTH


@dataclass(frozen=True)
class Vectors:
    """Where vectors lie among blocks of ``[1, WIDTH / WORD, WORD]`` coordinates.

    Attributes:
        lengths: of each vector.
        counts: ``[V]`` int64 on the host, blocks of each vector.
        rows: ``[B]`` int32, the number of each block within its vector.
    """

    lengths: tuple[int, ...]
    counts: Tensor
    rows: Tensor

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> "Vectors":
        """Lay out vectors of some lengths for kernels on a device."""
        counts = [padded(length) // WIDTH for length in lengths]
        rows = torch.cat([torch.arange(count, dtype=torch.int32) for count in counts])
        return cls(tuple(lengths), torch.tensor(counts), rows.to(device))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of all blocks, ``[B, 1, WIDTH / WORD, WORD]``."""
        return len(self.rows), 1, WIDTH // WORD, WORD

    def by_block(self, values: Tensor) -> Tensor:
        """What belongs to each vector, ``[V, ...]``, for each of its blocks, ``[B, ...]``."""
        return values.repeat_interleave(self.counts.to(values.device), dim=0)

    def split(self, blocks: Tensor) -> list[Tensor]:
        """The vectors ``[..., length]`` in blocks of ``[..., B, 1, WIDTH / WORD, WORD]``, views."""
        parts = blocks.flatten(-4).split([WIDTH * count for count in self.counts.tolist()], dim=-1)
        return [part[..., :length] for part, length in zip(parts, self.lengths, strict=True)]
