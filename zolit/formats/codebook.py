"""Weights of codebook vectors (AQLM, arXiv 2401.06118), kept as indices."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.formats.base import Rows, StoredWeight
from zolit.kernels.arguments import Perturbation, Update
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


class CodebookWeight(StoredWeight):
    """``scale * sum of codebook vectors`` for each group of 4, 8, 16 or 32 columns of a row.

    Indices have no order, so they do not move; the scales of the rows do.

    Attributes:
        codes: ``[rows, columns / group, codebooks]`` int8 or int16 indices, modulo the codebooks'
            size.
        codebooks: ``[codebooks, size, group]`` float.
        scale: ``[rows, 1]`` float32.
    """

    codes_move: ClassVar[bool] = False

    def __init__(self, codes: Tensor, codebooks: Tensor, scale: Tensor) -> None:
        self.codes, self.codebooks, self.scale = codes, codebooks, scale
        self.rows, self.columns = codes.shape[0], codes.shape[1] * codebooks.shape[2]

    @property
    def device(self) -> torch.device:
        return self.codes.device

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "codebooks": self.codebooks, "scale": self.scale}

    def scales(self) -> dict[str, Tensor]:
        return {"scale": self.scale}

    def replace(self, tensors: dict[str, Tensor]) -> "CodebookWeight":
        return CodebookWeight(tensors["codes"], tensors["codebooks"], tensors["scale"])

    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        if perturbation is not None:
            raise TypeError("the indices of a codebook do not move")
        codes = self.codes[rows]
        width = self.codebooks.shape[2]
        short = self.padded_columns // width - codes.shape[1]
        if short:  # decodes to padding, which meets zeros
            codes = F.pad(codes, (0, 0, 0, short))
        read_codebook(
            codes,
            self.codebooks,
            self.scale[rows].unsqueeze(2),
            outs[0].unflatten(1, (-1, width)),
            preference=preference,
        )

    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        raise TypeError("the indices of a codebook do not move")
