"""The quantized layers of a checkpoint, which keep their codes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from zolit.formats.base import StoredWeight
from zolit.formats.dense import DenseWeight
from zolit.models.parts import Excluded


@dataclass(frozen=True)
class StoredLayer:
    """A linear layer of a quantized checkpoint.

    Attributes:
        read: reads its codes, scales and zero points.
        form: its format; layers of one shape and form take the same memory.
    """

    read: Callable[[], StoredWeight]
    form: str


@dataclass(frozen=True)
class KeptLayers:
    """Stores each linear layer as the checkpoint does: the quantizer of one opened checkpoint.

    Linear layers that the checkpoint left as floats stay floats.

    Attributes:
        layers: of the checkpoint, by the name of the parameter in the model.
    """

    layers: Mapping[str, StoredLayer]

    quantized: ClassVar[bool] = True
    converts: ClassVar[bool] = False
    calibrated: ClassVar[bool] = False
    keep_error: ClassVar[bool] = False
    straight_through: ClassVar[bool] = False

    def calibrate(self, model: nn.Module, tokenizer: Any, excluded: Excluded | None = None) -> None:
        """Do nothing: the weights are quantized already."""

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> StoredWeight:
        """The checkpoint's layer of that name; ``weight`` itself if the checkpoint has floats."""
        return self.layers[path].read() if path in self.layers else DenseWeight(weight)
