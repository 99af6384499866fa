"""Weights stored as ``code * scale + zero``, with a scale for each row or group of columns."""

from abc import abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.formats.elements import ElementWeight
from zolit.formats.layout import is_padded, to_blocks, without_base
from zolit.formats.rows import Rows, chunks, row_indices
from zolit.kernels.arguments import Stored
from zolit.noise import WORD


def valid_group_size(group_size: int) -> int:
    """The number of neighbouring columns that share a scale.

    Raises:
        UserError: if the layout of the kernels cannot hold such groups: it is no multiple of 32.
    """
    if group_size < WORD or group_size % WORD:
        raise UserError(
            f"group_size must be a multiple of {WORD}, got {group_size}; use 32, 64 or 128"
        )
    return group_size


def check_group_size(group_size: int, columns: int, name: str) -> None:
    """Refuse a group size that does not fit a weight.

    Args:
        group_size: neighbouring columns that share a scale.
        columns: input channels of the weight.
        name: of the weight, for the message.

    Raises:
        UserError: if the size does not divide the columns.
    """
    if columns % group_size:
        fitting = [g for g in (32, 64, 128, 256) if columns % g == 0]
        hint = f"use one of {fitting}" if fitting else "use a format with a scale per row"
        raise UserError(
            f"group_size must divide the {columns} input channels of {name}, got {group_size}; "
            f"{hint}"
        )


_CHUNK_ELEMENTS = 1 << 18
"""Elements that are quantized at once, so that their float32 copies stay small and in cache."""


def quantize_rows(
    quantize: Callable[..., tuple[Tensor, ...]], weight: Tensor, *beside: Tensor | None
) -> tuple[Tensor, ...]:
    """Quantize a matrix in chunks of rows, for formats that quantize each row on its own.

    Args:
        quantize: takes ``[R, K]`` float32, which it may overwrite, and the same rows of each matrix
            in ``beside``; returns tensors of R rows.
        weight: ``[rows, K]`` float.
        beside: further matrices of as many rows, or None, which ``quantize`` gets as it is.

    Returns:
        The tensors that ``quantize`` would return for the whole matrix.

    Example:
        >>> def signs(part):
        ...     return part.sign().to(torch.int8), part.abs().amax(dim=1, keepdim=True)
        >>> codes, scale = quantize_rows(signs, torch.tensor([[1.0, -2.0], [3.0, 0.0]]))
        >>> codes.tolist(), scale.tolist()
        ([[1, -1], [1, 0]], [[2.0], [3.0]])
    """
    count, columns = weight.shape
    whole: tuple[Tensor, ...] = ()
    for rows in chunks(count, max(1, _CHUNK_ELEMENTS // columns)):
        part = torch.empty(weight[rows].shape, device=weight.device)
        others = (None if one is None else one[rows] for one in beside)
        made = quantize(part.copy_(weight[rows]), *others)
        if not whole:
            whole = tuple(one.new_empty(count, *one.shape[1:]) for one in made)
        for one, to in zip(made, whole, strict=True):
            to[rows].copy_(one)
    return whole


class AffineWeight(ElementWeight):
    """``w = code * scale + zero`` with a scale for each row or for each group of its columns.

    Attributes:
        scale: ``[rows, groups]`` float32, not 0. GGUF files also have negative scales.
        zero: ``[rows, groups]`` float32, the value of code 0; None where the format fixes it.
    """

    keeps_error: ClassVar[bool] = True
    scale: Tensor
    zero: Tensor | None = None

    @property
    def device(self) -> torch.device:
        return self.scale.device

    @property
    def groups(self) -> int:
        """Groups of columns that have a scale of their own."""
        return self.scale.shape[1]

    def scales(self) -> dict[str, Tensor]:
        return {"scale": self.scale} | ({} if self.zero is None else {"zero": self.zero})

    def zeros(self) -> Tensor:
        """The value of code 0, ``[rows, groups]`` float32, also where the format fixes it."""
        return torch.zeros_like(self.scale) if self.zero is None else self.zero

    @abstractmethod
    def code_blocks(self, rows: Rows) -> Tensor | list[Tensor]:
        """Codes of some rows, in the shape that the kernels take."""

    def value_blocks(self, buffer: Tensor) -> Tensor:
        return to_blocks(buffer, self.groups)

    def part_blocks(self, part: Tensor) -> Tensor:
        """A view of some rows' scales or zeros, ``[R, groups]``, that broadcasts with their values.

        The values have the shape that `value_blocks` gives them.
        """
        return part.view(-1, self.groups, 1, 1)

    @property
    def views_codes(self) -> bool:
        """Whether `code_blocks` of a slice are views, rather than padded copies."""
        return self.columns % WORD == 0

    def stored(self, rows: Rows) -> Stored:
        # The views of a whole weight are kept: to make them takes as long as a small product.
        if isinstance(rows, slice) and rows.stop - rows.start == self.rows and self.views_codes:
            return self._whole
        return self._views(rows)

    def _views(self, rows: Rows) -> Stored:
        zero = None if self.zero is None else self.part_blocks(self.zero[rows])
        scale, index = self.part_blocks(self.scale[rows]), row_indices(rows, self.device)
        return Stored(self.code_blocks(rows), scale, zero, index)

    @cached_property
    def _whole(self) -> Stored:
        codes, scale, zero, index = self._views(slice(0, self.rows))
        own = (
            [without_base(one) for one in codes] if isinstance(codes, list) else without_base(codes)
        )
        scale, zero = (None if one is None else without_base(one) for one in (scale, zero))
        return Stored(own, scale, zero, index)

    def __getstate__(self) -> dict[str, Any]:
        # A copy of the weight must not keep views of this one's tensors.
        return {name: value for name, value in self.__dict__.items() if name != "_whole"}

    def keep_views(self) -> None:
        if self.views_codes:
            _ = self._whole


class ByteWeight(AffineWeight):
    """An affine weight whose codes take a byte each.

    Attributes:
        codes: ``[rows, columns]`` int8 or float8, as in a torchao tensor.
    """

    codes: Tensor

    def tensors(self) -> dict[str, Tensor]:
        return {"codes": self.codes, **self.scales()}

    def bytes(self, rows: Rows) -> Tensor:
        """Codes of some rows as int8 bit patterns."""
        return self.codes[rows].view(torch.int8)

    def code_blocks(self, rows: Rows) -> Tensor:
        return to_blocks(self.bytes(rows), self.groups)

    def write_back(self, rows: slice, stored: Stored) -> None:
        part = self.bytes(rows)
        if is_padded(part):
            part.copy_(stored.codes.flatten(1)[:, : self.columns])


def value_of_zero(scale: Tensor, zero_code: Tensor, offset: int) -> Tensor:
    """The value of stored code 0, where a code c of another library is stored as ``c - offset``.

    Args:
        scale: ``[rows, groups]`` float32.
        zero_code: ``[rows, groups]`` integer, the other library's code of the value 0.
        offset: the number that was subtracted from every code.

    Returns:
        ``[rows, groups]`` float32.
    """
    return scale * (offset - zero_code.to(torch.int32)).float()
