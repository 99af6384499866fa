"""A tensor of a checkpoint that is read only when it is indexed."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from zolit.errors import UserError, first_line


@dataclass(frozen=True)
class LazyTensor:
    """A tensor of a file, read each time it is indexed, as transformers' loader does.

    Attributes:
        name: in the checkpoint.
        file: that holds it.
        read: reads it, in the file's dtype.
        dtype: of the file's, as torch calls it; None if it is not known before the tensor is read.
        shape: None if it is not known before the tensor is read.
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
