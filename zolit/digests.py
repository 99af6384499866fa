"""Hashes of tensors."""

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line reads a journal before torch is loaded
    from torch import Tensor

DIGEST_BYTES = 16


def digests(tensors: Mapping[str, "Tensor"]) -> dict[str, str]:
    """Hex BLAKE2b of each tensor's bytes, 16 bytes long; tensors are hashed beside each other."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(tensors, pool.map(_digest, tensors.values()), strict=True))


def whole(found: Mapping[str, str]) -> bytes:
    """One digest over the digests of all tensors and their names."""
    lines = "".join(f"{name} {found[name]}\n" for name in sorted(found))
    return hashlib.blake2b(lines.encode(), digest_size=DIGEST_BYTES).digest()


def _digest(tensor: "Tensor") -> str:
    import torch

    flat = tensor.detach().contiguous().cpu().reshape(-1).view(torch.uint8)
    return hashlib.blake2b(flat.numpy().data, digest_size=DIGEST_BYTES).hexdigest()
