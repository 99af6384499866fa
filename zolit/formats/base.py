"""How a weight lies in memory: what the read, the product and the update need of a format."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.kernels.accumulate import Query
from zolit.kernels.dispatch import Preference
from zolit.kernels.read import Perturbation
from zolit.noise import WORD

Rows = slice | Tensor
"""Rows of a weight: a contiguous chunk, or ``[R]`` int64 indices (an embedding lookup)."""


def to_blocks(x: Tensor, groups: int = 1, width: int = WORD) -> Tensor:
    """``[R, K]`` as ``[R, groups, W, width]``: a view, or a padded copy if need be."""
    short = -x.shape[1] % width
    if short:
        x = F.pad(x, (0, short))
    return x.view(x.shape[0], groups, -1, width)


def is_padded(x: Tensor, width: int = WORD) -> bool:
    """Whether `to_blocks` copies ``x`` rather than viewing it."""
    return x.shape[1] % width != 0


def chunks(rows: int, most: int) -> Iterator[slice]:
    """The rows of a weight in slices of at most ``most`` of them."""
    for start in range(0, rows, most):
        yield slice(start, min(start + most, rows))


def by_row(unit: Tensor, like: Tensor) -> Tensor:
    """A unit ``[2]`` as it is; one for each row, ``[2, R]``, so that it spreads over ``like``'s."""
    return unit if unit.dim() == 1 else unit.view(2, -1, *[1] * (like.dim() - 1))


def without_base(view: Tensor) -> Tensor:
    """The memory of a view as a tensor of its own.

    Kernels are compiled for how views lie in their base, and refuse to write to two views of one.
    """
    if view.is_meta:  # holds no memory, and has no DLPack form
        return view
    with torch.inference_mode(False):
        return torch.from_dlpack(view)


def own_rows(table: Tensor) -> list[Tensor]:
    """The rows of a small table as tensors of their own (see `without_base`)."""
    return [row.clone() for row in table]


class StoredWeight(ABC):
    """A matrix in one storage format, read in chunks of rows and updated in place.

    Decoded rows are padded to a multiple of 32 columns; `activations` pads the other factor of a
    product alike.

    Attributes:
        rows: output channels (first dimension of the matrix).
        columns: input channels.
        quantized: whether the stored numbers are codes with scales.
        levels: code units from one end of the format to the other.
        codes_move: whether a coordinate of the elements can move; indices of a codebook cannot.
        error: what quantization left of the weight, ``[rows, padded_columns]`` float16 in code
            units; None unless the quantizer keeps it. Error feedback starts here.
    """

    rows: int
    columns: int
    error: Tensor | None = None
    quantized: ClassVar[bool] = True
    levels: int = 256
    codes_move: ClassVar[bool] = True

    @property
    def words(self) -> int:
        """Noise words in a row."""
        return -(-self.columns // WORD)

    @property
    def padded_columns(self) -> int:
        """Columns of a decoded row."""
        return self.words * WORD

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the weight lies."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name: all that a checkpoint keeps of the weight."""

    def scales(self) -> dict[str, Tensor]:
        """The stored tensors that a direction on scales moves: ``scale``, and zeros that move with
        it, all ``[rows, groups]``; none for floats.
        """
        return {}

    @abstractmethod
    def replace(self, tensors: dict[str, Tensor]) -> "StoredWeight":
        """A weight of the same format around other tensors (another device, a loaded file)."""

    @abstractmethod
    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        """Decode rows into ``outs``.

        Args:
            rows: which rows.
            outs: one or two ``[R, padded_columns]`` float tensors. With a perturbation the first
                gets the weight at +, the second at -.
            perturbation: what to add, None for the stored weight itself.
            preference: kernel choice.
        """

    @abstractmethod
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
        """Move rows of the weight in place.

        Args:
            rows: which rows.
            step: ``[R, padded_columns]`` or ``[1, padded_columns]`` float32, in units of the
                coordinate, or None.
            unit: ``[2]`` float32: length of the unit in codes, in weights; or ``[2, R]``.
            rounding: ``[2]`` int32 key words of the stochastic rounding.
            preference: kernel choice.
            residual: ``[R, padded_columns]`` error feedback, updated in place.
            decay: float32 scalar tensor, factor of the residual.
            query: a direction that adds to the step, made inside the kernel.
        """

    def keep_views(self) -> None:  # noqa: B027 (most formats keep nothing)
        """Make what is kept for reads now; made between activations it would pin their memory."""

    def activations(self, x: Tensor) -> Tensor:
        """The other factor of a product: ``[..., columns]`` as ``[..., padded_columns]``."""
        short = self.padded_columns - self.columns
        return F.pad(x, (0, short)) if short else x  # padding by nothing copies

    def in_model_order(self, decoded: Tensor) -> Tensor:
        """Decoded rows without padding, their columns as the model has them: ``[R, columns]``.

        Args:
            decoded: ``[R, padded_columns]``, what `read` wrote.
        """
        return decoded[:, : self.columns]

    def multiply_scales(self, factor: Tensor, floor: float) -> None:
        """Multiply each scale in place, and its zero alike, so that its weights grow or shrink.

        Args:
            factor: ``[rows, groups]`` float32, or ``[rows, 1]`` for all groups of a row.
            floor: smallest size of a scale; it keeps its sign.
        """
        scales = self.scales()
        if not scales:
            raise TypeError(f"{type(self).__name__} has no scales")
        kept = torch.maximum(factor, floor / scales["scale"].abs())
        for part in scales.values():
            part.mul_(kept)

    def with_scales(self, factor: Tensor) -> "StoredWeight":
        """A weight of the same codes, shared, its scales and zeros multiplied.

        Args:
            factor: ``[rows, groups]`` float32.
        """
        scales = {name: part * factor for name, part in self.scales().items()}
        return self.replace(self.tensors() | scales)

    def describe(self) -> dict[str, Any]:
        """The format in plain values, for checkpoints and reports."""
        return {"format": type(self).__name__, "rows": self.rows, "columns": self.columns}


def row_indices(rows: Rows, device: torch.device) -> Tensor:
    """``[R]`` int32 indices of a selection of rows; not to be written to."""
    if isinstance(rows, slice):
        return _chunk_indices(rows.start, rows.stop, device)
    return rows.to(torch.int32)


@lru_cache(maxsize=1024)
def _chunk_indices(start: int, stop: int, device: torch.device) -> Tensor:
    # Made once for all weights of a shape; an inference tensor would compile kernels anew.
    with torch.inference_mode(False):
        return torch.arange(start, stop, dtype=torch.int32, device=device)
