"""Keep the weights of a quantized checkpoint as they are stored."""

from typing import ClassVar

from torch import Tensor

from zolit.formats.dense import DenseWeight
from zolit.strategies.quantizer.base import Quantizer


class Stored(Quantizer):
    """Keeps the codes, scales and zero points of a quantized checkpoint; requantizes nothing.

    Linear layers that the checkpoint left as floats stay floats. The loader finds the format in the
    checkpoint's config.json, or in a GGUF file itself, and reads the layers
    (`zolit.models.loading.kept_layers.KeptLayers`).

    Example:
        ::

            model:
              source:
                path: models/llama-gptq # a folder whose config.json declares a quantized format
              quantizer: Stored
    """

    converts: ClassVar[bool] = False

    def store(self, weight: Tensor, path: str, excluded: Tensor | None = None) -> DenseWeight:
        """Keep a layer that the checkpoint left as floats; the others never come here."""
        return DenseWeight(weight)
