"""What quantized weights share: codes with scales by row or by group of columns."""

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.formats.base import (
    Rows,
    StoredWeight,
    by_row,
    chunks,
    is_padded,
    row_indices,
    to_blocks,
    without_base,
)
from zolit.kernels.accumulate import Query, query_arguments
from zolit.kernels.dispatch import Kernel, Preference
from zolit.kernels.read import Perturbation, noise_arguments
from zolit.noise import WORD


def check_group_size(group_size: int, columns: int, name: str) -> None:
    """Refuse a group size that the layout of the kernels cannot hold.

    Raises:
        UserError: if the size is not a multiple of 32 or does not divide the columns.
    """
    if group_size < WORD or group_size % WORD:
        raise UserError(
            f"group_size must be a multiple of {WORD}, got {group_size}; use 32, 64 or 128"
        )
    if columns % group_size:
        fitting = [g for g in (32, 64, 128, 256) if columns % g == 0]
        hint = f"use one of {fitting}" if fitting else "use a format with a scale per row"
        raise UserError(
            f"group_size must divide the {columns} input channels of {name}, got {group_size}; "
            f"{hint}"
        )


_CHUNK_ELEMENTS = 1 << 18
"""Weights quantized at once: their float32 copies stay in cache, and small."""


def quantize_rows(
    quantize: Callable[[Tensor], tuple[Tensor, ...]], weight: Tensor
) -> tuple[Tensor, ...]:
    """Quantize a matrix chunk by chunk of rows, for formats whose rows are independent.

    Args:
        quantize: ``[R, K]`` float32, which it may overwrite, to tensors of R rows each.
        weight: ``[rows, K]`` float.

    Returns:
        What ``quantize`` would return for the whole matrix.
    """
    count, columns = weight.shape
    whole: tuple[Tensor, ...] = ()
    for rows in chunks(count, max(1, _CHUNK_ELEMENTS // columns)):
        part = torch.empty(weight[rows].shape, device=weight.device)
        made = quantize(part.copy_(weight[rows]))
        if not whole:
            whole = tuple(one.new_empty(count, *one.shape[1:]) for one in made)
        for one, to in zip(made, whole, strict=True):
            to[rows].copy_(one)
    return whole


class AffineWeight(StoredWeight):
    """Codes with a scale for each row or for each group of its columns.

    Attributes:
        scale: ``[rows, groups]`` float32, not 0; negative ones (GGUF) turn codes round.
    """

    scale: Tensor
    read_kernel: Kernel
    apply_kernel: Kernel

    @property
    def device(self) -> torch.device:
        return self.scale.device

    @property
    def groups(self) -> int:
        """Groups of columns that have a scale of their own."""
        return self.scale.shape[1]

    def scales(self) -> dict[str, Tensor]:
        return {"scale": self.scale}

    @property
    def views_codes(self) -> bool:
        """Whether `code_blocks` of a slice is a view, not a padded copy."""
        return self.columns % WORD == 0

    @abstractmethod
    def code_blocks(self, rows: Rows) -> Tensor | list[Tensor]:
        """Codes of some rows, in the shape that the kernels take."""

    def value_blocks(self, buffer: Tensor) -> Tensor:
        """``[R, padded_columns]`` decoded values in the kernels' shape, a view."""
        return to_blocks(buffer, self.groups)

    def decoding(self, rows: Rows) -> list[Tensor | None]:
        """What a read decodes codes with, each ``[R, groups, 1, 1]`` float32; the scale first.

        None is a part that the format may have and this weight lacks.
        """
        return [self.scale[rows].view(-1, self.groups, 1, 1)]

    @cached_property
    def _whole(self) -> tuple[Tensor | list[Tensor], list[Tensor | None], Tensor]:
        codes, decoding, index = self._views(slice(0, self.rows))
        own = (
            [without_base(one) for one in codes] if isinstance(codes, list) else without_base(codes)
        )
        return own, [None if one is None else without_base(one) for one in decoding], index

    def __getstate__(self) -> dict[str, Any]:
        # A copy makes views of its own tensors.
        return {name: value for name, value in self.__dict__.items() if name != "_whole"}

    def keep_views(self) -> None:
        if self.views_codes:
            _ = self._whole

    def _views(self, rows: Rows) -> tuple[Tensor | list[Tensor], list[Tensor | None], Tensor]:
        return self.code_blocks(rows), self.decoding(rows), row_indices(rows, self.device)

    def operands(self, rows: Rows) -> tuple[Tensor | list[Tensor], list[Tensor | None], Tensor]:
        """What the kernels take of some rows: codes, what decodes them, row indices.

        Views of a whole weight are kept: making them again costs as much as a small product.
        """
        if isinstance(rows, slice) and rows.stop - rows.start == self.rows and self.views_codes:
            return self._whole
        return self._views(rows)

    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        codes, decoding, index = self.operands(rows)
        self.read_kernel(
            codes,
            *decoding,
            index,
            [self.value_blocks(out) for out in outs],
            *noise_arguments(perturbation),
            preference=preference,
        )

    def apply(
        self,
        rows: slice,
        step: Tensor | None,
        unit: Tensor,
        rounding: Tensor,
        preference: Preference,
        residual: Tensor | None = None,
        decay: Tensor | None = None,
        query: Query | None = None,
    ) -> None:
        codes, decoding, index = self.operands(rows)
        scale = cast(Tensor, decoding[0])  # of the parts, the one that no format lacks
        self.apply_kernel(
            codes,
            scale,
            None if step is None else self.value_blocks(step),
            by_row(unit, scale),
            index,
            rounding,
            None if residual is None else self.value_blocks(residual),
            decay,
            *query_arguments(query),
            preference=preference,
        )
        self.write_back(rows, codes)

    def write_back(self, rows: slice, blocks: Any) -> None:
        """Store updated `code_blocks` where they were a copy; nothing to do for views."""


class ByteWeight(AffineWeight):
    """Codes ``[rows, columns]`` of one byte.

    Attributes:
        codes: ``[rows, columns]`` one-byte tensor, the storage of a torchao tensor.
    """

    def __init__(self, codes: Tensor, scale: Tensor) -> None:
        self.codes, self.scale = codes, scale
        self.rows, self.columns = codes.shape

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, "scale": self.scale}

    def replace(self, tensors: dict[str, Tensor]) -> "ByteWeight":
        return type(self)(tensors["codes"], tensors["scale"])

    def bytes(self, rows: Rows) -> Tensor:
        """Codes of some rows as int8 bit patterns."""
        return self.codes[rows].view(torch.int8)

    def code_blocks(self, rows: Rows) -> Tensor:
        return to_blocks(self.bytes(rows), self.groups)

    def write_back(self, rows: slice, blocks: Tensor) -> None:
        part = self.bytes(rows)
        if is_padded(part):
            part.copy_(blocks.flatten(1)[:, : self.columns])
