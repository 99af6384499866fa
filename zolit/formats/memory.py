"""The memory that products decode into, as a storage format asks for it."""

from typing import Protocol

import torch
from torch import Tensor


class Buffers(Protocol):
    """Memory for one or two versions of some rows (`zolit.tensors.workspace.Buffers`)."""

    @property
    def parts(self) -> list[Tensor]:
        """The memory of each version, ``[rows, columns]``."""


class Memory(Protocol):
    """Memory that all weights of a model reuse (`zolit.tensors.workspace.Workspace`)."""

    def rows_per_chunk(self, columns: int, item_bytes: int) -> int:
        """How many rows of a weight fit into the memory at once."""

    def buffers(
        self, copies: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device
    ) -> Buffers:
        """Memory for ``copies`` matrices ``[rows, columns]``; valid until the next call."""
