"""Weights as a quantized checkpoint stores them."""

from torch import Tensor

from zolit.strategies.quantizer.base import Quantizer
from zolit.tensors.dense import DenseWeight
from zolit.tensors.store import StoredWeight


class Stored(Quantizer):
    """Keeps the codes, scales and zero points of a GPTQ or AQLM checkpoint; requantizes nothing.

    Linear layers that the checkpoint left as floats stay floats. What the codes are is read from
    its config.json.
    """

    def store(self, weight: Tensor, path: str) -> StoredWeight:
        """A layer that the checkpoint left as floats; the loader brings the others."""
        return DenseWeight(weight)
