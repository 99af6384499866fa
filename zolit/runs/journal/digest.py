"""Hashes that tell one state of a run's weights from another."""

from torch import Tensor, nn

from zolit.checkpoints.tensors import weight_tensors
from zolit.digests import digests, whole
from zolit.models.prepare import stored_weights


def start_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a run starts from: the tensors that it moves, and what quantization left of them.

    What quantization left (``keep_error``) counts only until the optimizer has taken it over.
    """
    errors = {
        f"{weight.path}.error": weight.store.error
        for weight in stored_weights(model)
        if weight.site is not None and weight.store.error is not None
    }
    return {**weight_tensors(model), **errors}


def weights_digest(model: nn.Module) -> bytes:
    """`whole` of the tensors that a run moves, as they are now."""
    return whole(digests(weight_tensors(model)))
