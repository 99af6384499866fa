"""Memory that reads and updates reuse, and how many rows of a weight fit into it at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.layout import without_base
from zolit.formats.rows import chunks

_UPDATED_AT_ONCE = 1 << 20
"""Coordinates that are updated at once, so that their sum over queries stays in cache."""


def update_chunks(store: StoredWeight) -> Iterator[slice]:
    """The rows of a weight, cut into slices that are updated at once."""
    return chunks(store.rows, max(1, _UPDATED_AT_ONCE // store.padded_columns))


@dataclass(frozen=True)
class Buffers:
    """Memory for one or two decoded versions of some rows.

    Attributes:
        whole: ``[copies, rows, columns]``, for one batched product.
        parts: the same memory version by version, ``[rows, columns]`` each, for kernels to write.
    """

    whole: Tensor
    parts: list[Tensor]


class Workspace:
    """Buffers that all weights of a model decode into, one for each dtype and device.

    Args:
        chunk_bytes: size of a buffer that decoded rows are written to. Above the stored weights, a
            step needs its activations and this memory.

    Example:
        >>> workspace = Workspace(chunk_bytes=1 << 20)
        >>> workspace.rows_per_chunk(columns=1024, item_bytes=4)
        128
    """

    def __init__(self, chunk_bytes: int = 16 << 20) -> None:
        self.chunk_bytes = chunk_bytes
        self._memory: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._buffers: dict[tuple[tuple[int, int, int], torch.dtype, torch.device], Buffers] = {}

    def rows_per_chunk(self, columns: int, item_bytes: int) -> int:
        """How many rows of a weight fit into the buffers at once.

        There is room for two versions, so that chunks are the same inside and outside of a pair.
        Products of odd numbers of rows are slow, so a number above 64 is rounded down to a multiple
        of 64.

        Args:
            columns: of a decoded row.
            item_bytes: bytes of a decoded element.
        """
        most = self.chunk_bytes // (2 * columns * item_bytes)
        return max(1, most - most % 64 if most > 64 else most)

    def buffers(
        self, copies: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device
    ) -> Buffers:
        """Reused memory for ``copies`` matrices ``[rows, columns]``; valid until the next call."""
        need = copies * rows * columns
        shape = (copies, rows, columns)
        memory = self._memory.get((dtype, device))
        if memory is None or memory.numel() < need:
            # The memory may first be used in an evaluation. An inference tensor could not be
            # written to by a later fit.
            with torch.inference_mode(False):
                memory = torch.empty(need, dtype=dtype, device=device)
            self._memory[dtype, device] = memory
            self._buffers = {k: v for k, v in self._buffers.items() if k[1:] != (dtype, device)}
        found = self._buffers.get((shape, dtype, device))
        if found is None:
            whole = memory[:need].view(shape)
            found = Buffers(whole, [without_base(part) for part in whole])
            self._buffers[shape, dtype, device] = found
        return found

    @property
    def bytes(self) -> int:
        """Bytes that the buffers take now."""
        return sum(m.numel() * m.element_size() for m in self._memory.values())
