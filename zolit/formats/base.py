"""How a weight lies in memory: what the read, the product and the update need of a format."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.kernels.arguments import Perturbation, Update
from zolit.kernels.dispatch import Preference
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


class Affine(NamedTuple):
    """A weight as ``code * scale + zero``, for exports: nothing is rounded.

    Attributes:
        codes: ``[rows, columns]`` integers, or float8 numbers.
        scale: ``[rows, groups]`` float32.
        zero: ``[rows, groups]`` float32, value of code 0; None where it is 0 everywhere.
        bits: of a code.
        lowest: the smallest code that the format holds; 0 for codes without a sign.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None
    bits: int
    lowest: int


class Versions(Protocol):
    """Buffers for one or two versions of some rows (`Memory`)."""

    @property
    def parts(self) -> list[Tensor]:
        """Of each version, ``[rows, columns]``."""


class Memory(Protocol):
    """Where products decode to: memory that all weights of a model reuse."""

    def rows_per_chunk(self, columns: int, item_bytes: int) -> int:
        """Rows of a weight that fit at once."""

    def buffers(
        self, copies: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device
    ) -> Versions:
        """Memory for ``copies`` x ``[rows, columns]``; valid until the next call."""


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
        activation_dtype: what a product rounds its activations to, a scale for each token: int8
            (the product is then of integers, `multiply`), float8 (emulated), or None.
        keeps_error: whether rounding to codes leaves an error of less than a code that can be kept
            (`error`): codes are numbers times a scale.
        error: what quantization left of the weight, ``[rows, padded_columns]`` float16 in code
            units; None unless the quantizer keeps it. Error feedback starts here.

    Example:
        >>> from zolit.formats.int8 import Int8Weight
        >>> Int8Weight.quantize(torch.ones(4, 64), None).describe()
        {'format': 'Int8Weight', 'rows': 4, 'columns': 64}
    """

    rows: int
    columns: int
    error: Tensor | None = None
    quantized: ClassVar[bool] = True
    levels: int = 256
    codes_move: ClassVar[bool] = True
    keeps_error: ClassVar[bool] = False
    activation_dtype: torch.dtype | None = None

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

    @property
    def format_name(self) -> str:
        """The format in fingerprints of checkpoints; it stays when a class is renamed."""
        return type(self).__name__

    @property
    def title(self) -> str:
        """The format in messages, by the name of its class."""
        return type(self).__name__

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name: all that a checkpoint keeps of the weight."""

    def scales(self) -> dict[str, Tensor]:
        """The stored tensors that a direction on scales moves: ``scale``, and zeros that move with
        it, all ``[rows, groups]``; none for floats.
        """
        return {}

    def floats(self) -> Tensor | None:
        """The matrix itself where it is stored as floats, which are multiplied as they lie."""
        return None

    def affine(self) -> Affine | None:
        """The weight as codes and scales; None for a format that is not ``code * scale + zero``."""
        return None

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

    def read_copies(self, rows: Rows, outs: list[Tensor], preference: Preference) -> None:
        """Decode rows into each of several tensors, which all get the stored weight.

        Args:
            rows: which rows.
            outs: ``[R, padded_columns]`` float tensors.
            preference: kernel choice.
        """
        self.read(rows, outs[:1], None, preference)
        for out in outs[1:]:
            out.copy_(outs[0])

    @abstractmethod
    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        """Move rows of the weight in place.

        Args:
            rows: which rows.
            update: by how much.
            preference: kernel choice.
        """

    def keep_views(self) -> None:  # noqa: B027 (most formats keep nothing)
        """Make what is kept for reads now; made between activations it would pin their memory."""

    def activations(self, x: Tensor) -> Tensor:
        """The other factor of a product: ``[..., columns]`` as ``[..., padded_columns]``."""
        short = self.padded_columns - self.columns
        return F.pad(x, (0, short)) if short else x  # padding by nothing copies

    @property
    def integer_products(self) -> bool:
        """Whether products are of integers, by `multiply` and `code_versions`."""
        return self.activation_dtype == torch.int8

    def multiply(
        self,
        codes: Tensor,
        scale: Tensor,
        noise: Perturbation | None,
        out: Tensor,
        memory: Memory,
        preference: Preference,
    ) -> None:
        """``out[c] = (scale * codes)[c] @ W_c.T`` by int8 x int8 -> int32 products.

        Args:
            codes: ``[C, M, columns]`` int8, for C versions of the weight.
            scale: ``[C * M, 1]`` float32, of each row of ``codes``.
            noise: direction on the codes, None to multiply the stored codes.
            out: ``[C * M, rows]`` float, written.
            memory: for what is made on the way.
            preference: kernel choice.

        Raises:
            TypeError: unless the weight has `integer_products`.
        """
        raise TypeError(f"{self.title} has no product of integers")

    def code_versions(
        self,
        rows: slice,
        copies: int,
        noise: Perturbation | None,
        memory: Memory,
        preference: Preference,
    ) -> tuple[list[Tensor], Tensor]:
        """Some rows of each version of a weight, as codes.

        Args:
            rows: which rows.
            copies: versions.
            noise: direction on the codes, None for the stored codes.
            memory: whose buffers are overwritten.
            preference: kernel choice.

        Returns:
            ``[R, columns]`` int8 of each version and the scales, ``[R, 1, 1, 1]`` float32.

        Raises:
            TypeError: unless the weight has `integer_products`.
        """
        raise TypeError(f"{self.title} has no product of integers")

    def in_model_order(self, decoded: Tensor) -> Tensor:
        """Decoded rows without padding, their columns as the model has them: ``[R, columns]``.

        Args:
            decoded: ``[R, padded_columns]``, what `read` wrote.
        """
        return decoded[:, : self.columns]

    def in_stored_order(self, values: Tensor) -> Tensor:
        """What belongs to the columns of some rows in the order that they are stored in.

        Args:
            values: ``[R, columns]``, in the model's order.
        """
        return values

    def decoded(self, rows: Rows) -> Tensor:
        """Some rows at rest, ``[R, columns]`` float32 in the model's order.

        By the reference kernel, whose numbers are the same on every device.
        """
        count = rows.stop - rows.start if isinstance(rows, slice) else len(rows)
        out = torch.empty(count, self.padded_columns, device=self.device)
        self.read(rows, [out], None, "reference")
        return self.in_model_order(out)

    def multiply_scales(self, factor: Tensor, floor: float) -> None:
        """Multiply each scale in place, and its zero alike, so that its weights grow or shrink.

        Args:
            factor: ``[rows, groups]`` float32, or ``[rows, 1]`` for all groups of a row.
            floor: smallest size of a scale; it keeps its sign.
        """
        scales = self.scales()
        if not scales:
            raise TypeError(f"{self.title} has no scales")
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
        return {"format": self.format_name, "rows": self.rows, "columns": self.columns}


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
