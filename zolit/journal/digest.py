"""Hashes that tell one state of a run's weights from another."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from zolit.journal.format import DIGEST_BYTES
from zolit.models.checkpoint import weight_tensors
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


def digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Hex BLAKE2b of each tensor's bytes, 16 bytes long; tensors are hashed beside each other."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(tensors, pool.map(_digest, tensors.values()), strict=True))


def whole(found: Mapping[str, str]) -> bytes:
    """One digest over the digests of all tensors and their names."""
    lines = "".join(f"{name} {found[name]}\n" for name in sorted(found))
    return hashlib.blake2b(lines.encode(), digest_size=DIGEST_BYTES).digest()


def weights_digest(model: nn.Module) -> bytes:
    """`whole` of the tensors that a run moves, as they are now."""
    return whole(digests(weight_tensors(model)))


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(flat.numpy().data, digest_size=DIGEST_BYTES).hexdigest()
