"""Weights as a quantized checkpoint stores them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from zolit.formats.base import StoredWeight
from zolit.formats.dense import DenseWeight
from zolit.strategies.quantizer.base import Quantizer


@dataclass(frozen=True)
class StoredLayer:
    """A linear layer of a quantized checkpoint.

    Attributes:
        read: reads its codes, scales and zero points.
        form: its format; layers of one shape and form take the same memory.
    """

    read: Callable[[], StoredWeight]
    form: str


class Stored(Quantizer):
    """Keeps the codes, scales and zero points of a quantized checkpoint; requantizes nothing.

    Linear layers that the checkpoint left as floats stay floats. What the codes are is read from
    its config.json, or from a GGUF file itself.

    Attributes:
        layers: of the checkpoint, by the name of the parameter in the model.
    """

    converts = False

    def __init__(self) -> None:
        self.layers: Mapping[str, StoredLayer] = {}

    @classmethod
    def of(cls, layers: Mapping[str, StoredLayer]) -> "Stored":
        """With the layers of one checkpoint.

        Args:
            layers: by the name of the parameter in the model.
        """
        made = cls()
        made.layers = layers
        return made

    def store(self, weight: Tensor, path: str) -> StoredWeight:
        """The checkpoint's layer of that name; ``weight`` itself where it left floats."""
        return self.layers[path].read() if path in self.layers else DenseWeight(weight)
