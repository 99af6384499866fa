"""Weights that are sums of codebook vectors, stored as indices (AQLM, arXiv 2401.06118)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.formats.indices import IndexWeight
from zolit.formats.rows import Rows
from zolit.kernels.dispatch import Preference, kernel


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


class CodebookWeight(IndexWeight):
    """``scale * sum of codebook vectors`` for each group of 4, 8, 16 or 32 columns of a row.

    Args:
        codes: ``[rows, columns / width, codebooks]`` int8 or int16. The index of a vector is the
            code modulo the size of its codebook.
        codebooks: ``[codebooks, size, width]`` float: vectors of as many columns as a group has;
            the size is a power of two.
        scale: ``[rows, 1]`` float32.

    Example:
        >>> books = torch.arange(8.0).view(1, 2, 4)  # one codebook of two vectors
        >>> codes = torch.tensor([[[1], [0]]], dtype=torch.int8)
        >>> store = CodebookWeight(codes, books, torch.tensor([[0.5]]))
        >>> store.decoded(slice(0, 1))
        tensor([[2.0000, 2.5000, 3.0000, 3.5000, 0.0000, 0.5000, 1.0000, 1.5000]])
    """

    def __init__(self, codes: Tensor, codebooks: Tensor, scale: Tensor) -> None:
        self.codes, self.codebooks, self.scale = codes, codebooks, scale
        self.rows, self.columns = codes.shape[0], codes.shape[1] * codebooks.shape[2]

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "codebooks": self.codebooks, "scale": self.scale}

    def replace(self, tensors: dict[str, Tensor]) -> "CodebookWeight":
        return CodebookWeight(tensors["codes"], tensors["codebooks"], tensors["scale"])

    def look_up(self, rows: Rows, out: Tensor, preference: Preference) -> None:
        codes = self.codes[rows]
        width = self.codebooks.shape[2]
        short = self.padded_columns // width - codes.shape[1]
        if short:  # the padding decodes to some vector, which meets zeros of the activations
            codes = F.pad(codes, (0, 0, 0, short))
        read_codebook(
            codes,
            self.codebooks,
            self.scale[rows].unsqueeze(2),
            out.unflatten(1, (-1, width)),
            preference=preference,
        )
