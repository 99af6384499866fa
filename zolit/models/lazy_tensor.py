"""A tensor of a checkpoint that is read when it is asked for."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from zolit.errors import UserError, first_line


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of a file, read each time it is indexed (which is how transformers asks for it).

    Attributes:
        name: in the checkpoint.
        file: that holds it.
        read: returns it in a dtype of the file's.
        dtype: of the file's, as torch calls it; None where it is not told without reading.
        shape: likewise.
    """

    name: str
    file: Path
    read: Callable[[], Tensor]
    dtype: str | None = None
    shape: tuple[int, ...] | None = None

    def __getitem__(self, index: Any) -> Tensor:
        try:
            return self.read()
        except (OSError, SafetensorError, ValueError) as error:
            raise UserError(
                f"model.source: tensor {self.name!r} of {str(self.file)!r} could not be read "
                f"({first_line(error)}); the file is damaged, copy or download it again"
            ) from error
