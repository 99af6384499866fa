"""Keeps the hidden states of all windows in a file, with one window in memory at a time."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.files import replacing


class Kept:
    """A file that holds ``[length, columns]`` numbers for each window, one window after another.

    The file appears under its name only when it is complete.

    Args:
        file: its path.
        lengths: number of tokens of each window.
        columns: size of a hidden state.
        dtype: of the numbers.
    """

    def __init__(
        self, file: Path, lengths: Sequence[int], columns: int, dtype: torch.dtype
    ) -> None:
        self.file = file
        self.lengths = lengths
        self.columns = columns
        self.dtype = dtype

    def exists(self) -> bool:
        """Whether all windows are kept."""
        return self.file.is_file()

    def size(self) -> int:
        """Bytes that the file takes on the disk."""
        return sum(self.lengths) * self.columns * self.dtype.itemsize

    def read(self) -> Iterator[Tensor]:
        """The hidden states of each window in turn, ``[1, length, columns]`` on the CPU."""
        with self.file.open("rb") as stream:
            for length in self.lengths:
                data = bytearray(stream.read(length * self.columns * self.dtype.itemsize))
                yield torch.frombuffer(data, dtype=self.dtype).view(1, length, self.columns)

    def one(self, window: int) -> Tensor:
        """The hidden states of one window, ``[1, length, columns]`` on the CPU."""
        size = self.columns * self.dtype.itemsize
        with self.file.open("rb") as stream:
            stream.seek(sum(self.lengths[:window]) * size)
            data = bytearray(stream.read(self.lengths[window] * size))
        return torch.frombuffer(data, dtype=self.dtype).view(1, -1, self.columns)

    @contextmanager
    def writing(self) -> Iterator[Callable[[Tensor], None]]:
        """A function that appends one window; the file is complete when the context ends."""
        with replacing(self.file) as scratch, scratch.open("wb") as stream:
            yield lambda states: self._append(stream, states)

    def _append(self, stream: IO[bytes], states: Tensor) -> None:
        if states.dtype != self.dtype or states.shape[-1] != self.columns:
            raise UserError(
                "model.source: the blocks of the model cannot be walked one after another: one "
                f"gives {states.shape[-1]} columns of {states.dtype}, another {self.columns} of "
                f"{self.dtype}; give a model whose blocks are alike, or model.dtype: float32"
            )
        flat = states.detach().contiguous().cpu().flatten().view(torch.uint8)
        stream.write(flat.numpy().data)

    def remove(self) -> None:
        """Delete the file, if it is there."""
        self.file.unlink(missing_ok=True)
