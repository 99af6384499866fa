"""Decode rows of a weight of codebook vectors."""

import torch
from torch import Tensor

from zolit.kernels.dispatch import kernel


@kernel
def read_codebook(codes: Tensor, codebooks: Tensor, scale: Tensor, out: Tensor) -> None:
    """``out = scale * sum_m codebooks[m, codes[..., m]]``.

    Args:
        codes: ``[R, V, M]`` int8 or int16; the low bits of each are an index into codebook m.
        codebooks: ``[M, size, width]`` float; the size is a power of two.
        scale: ``[R, 1, 1]`` float32.
        out: ``[R, V, width]`` float, written.
    """
    low_bits = codebooks.shape[1] - 1
    vectors = [
        book[codes[..., m].to(torch.int32) & low_bits].float() for m, book in enumerate(codebooks)
    ]
    value = vectors[0]
    for vector in vectors[1:]:
        value = value + vector
    out.copy_((value * scale).to(out.dtype))
