"""Hashes of tensors: they tell one state of a model's weights from another."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads a journal before torch is loaded
    from torch import Tensor

DIGEST_BYTES = 16


def tensor_digests(tensors: Mapping[str, "Tensor"]) -> dict[str, str]:
    """Hex BLAKE2b of the bytes of each tensor, 16 bytes long. Several are hashed at once."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(tensors, pool.map(_digest, tensors.values()), strict=True))


def combined_digest(digests: Mapping[str, str]) -> bytes:
    """One digest over all tensors: over their names and their digests."""
    lines = "".join(f"{name} {digests[name]}\n" for name in sorted(digests))
    return hashlib.blake2b(lines.encode(), digest_size=DIGEST_BYTES).digest()


def _digest(tensor: "Tensor") -> str:
    import torch

    flat = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(flat.numpy().data, digest_size=DIGEST_BYTES).hexdigest()
