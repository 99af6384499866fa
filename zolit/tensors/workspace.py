"""Memory that reads and updates reuse, and the number of rows that fit into it at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from zolit.formats.base import StoredWeight, chunks, without_base

_UPDATED_AT_ONCE = 1 << 20
"""Coordinates of a chunk in an update: its sum over queries stays in cache."""


def update_chunks(store: StoredWeight) -> Iterator[slice]:
    """The rows of a weight in slices that are updated at once."""
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
    """Buffers that all weights of a model decode into, one of each dtype and device.

    Args:
        chunk_bytes: size of the buffers that decoded rows are written to. The peak of a step above
            the stored weights is its activations plus this.
    """

    def __init__(self, chunk_bytes: int = 16 << 20) -> None:
        self.chunk_bytes = chunk_bytes
        self._memory: dict[tuple[torch.dtype, torch.device], Tensor] = {}
        self._buffers: dict[tuple[tuple[int, int, int], torch.dtype, torch.device], Buffers] = {}

    def rows_per_chunk(self, columns: int, item_bytes: int) -> int:
        """Rows of a weight that fit into the buffers at once.

        Each of a pair's two buffers gets half of the memory, also outside of a pair. Products of
        odd numbers of rows are slow, so a number above 64 is a multiple of 64.
        """
        most = self.chunk_bytes // (2 * columns * item_bytes)
        return max(1, most - most % 64 if most > 64 else most)

    def buffers(
        self, copies: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device
    ) -> Buffers:
        """Reused memory for ``copies`` x ``[rows, columns]``; valid until the next call."""
        need = copies * rows * columns
        shape = (copies, rows, columns)
        memory = self._memory.get((dtype, device))
        if memory is None or memory.numel() < need:
            # The memory is reused after an evaluation, and a fit could not write to an inference
            # tensor.
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
        """Memory that the buffers hold now."""
        return sum(m.numel() * m.element_size() for m in self._memory.values())
