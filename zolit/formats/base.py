"""A weight in one storage format: what reads, products and updates ask of it."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from zolit.formats.memory import Memory
from zolit.formats.rows import Rows
from zolit.kernels.arguments import Perturbation, Update
from zolit.kernels.dispatch import Preference
from zolit.noise import WORD


class Affine(NamedTuple):
    """A weight as ``code * scale + zero``, exactly as it is stored; exports read it.

    Attributes:
        codes: ``[rows, columns]`` integers, or float8 numbers.
        scale: ``[rows, groups]`` float32.
        zero: ``[rows, groups]`` float32, the value of code 0; None where it is 0 everywhere.
        bits: number of bits of a code.
        lowest: the smallest code that the format holds; 0 for codes without a sign.
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None
    bits: int
    lowest: int


class StoredWeight(ABC):
    """A matrix in one storage format, read in chunks of rows and updated in place.

    Rows are decoded to a multiple of 32 columns (`padded_columns`), padded on the right.
    `activations` pads the other factor of a product in the same way.

    Attributes:
        rows: output channels, the first dimension of the matrix.
        columns: input channels.
        quantized: whether codes with scales are stored, rather than floats.
        levels: number of code units between the smallest and the largest value of the format.
        codes_move: whether a direction can move single codes. It cannot where codes are indices of
            a table (`zolit.formats.indices.IndexWeight`).
        activation_dtype: what a product rounds its activations to, with a scale for each token:
            int8 (products are then of integers, `multiply`), float8 (emulated), or None for no
            rounding.
        keeps_error: whether the error that quantization makes can be kept in ``error``. It can
            where a value is a code times a scale.
        error: the rounding error of quantization, ``[rows, padded_columns]`` float16 in code units,
            where error feedback starts. None unless the quantizer keeps it.

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
        """Words of 32 columns in a row; the last one may be padded."""
        return -(-self.columns // WORD)

    @property
    def padded_columns(self) -> int:
        """Columns of a decoded row: ``columns``, rounded up to a multiple of 32."""
        return self.words * WORD

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """The device of the stored tensors."""

    @property
    def format_name(self) -> str:
        """The format in fingerprints of checkpoints; it stays when a class is renamed."""
        return type(self).__name__

    @property
    def title(self) -> str:
        """The format in messages: the name of its class."""
        return type(self).__name__

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors by name; `replace` makes the weight from them again."""

    def scales(self) -> dict[str, Tensor]:
        """The stored tensors that a direction on scales moves, each ``[rows, groups]`` float32.

        They are ``scale``, and ``zero`` where the format stores one, which moves with its scale.
        Floats have none.
        """
        return {}

    def floats(self) -> Tensor | None:
        """The matrix itself where it is stored as floats, so that products need not decode it."""
        return None

    def affine(self) -> Affine | None:
        """The weight as codes and scales; None for a format that is not ``code * scale + zero``."""
        return None

    @abstractmethod
    def replace(self, tensors: dict[str, Tensor]) -> "StoredWeight":
        """A weight of the same format around other tensors, named as `tensors` names them.

        They may lie on another device, or come from a file.
        """

    @abstractmethod
    def read(
        self,
        rows: Rows,
        outs: list[Tensor],
        perturbation: Perturbation | None,
        preference: Preference,
    ) -> None:
        """Decode some rows.

        Args:
            rows: which rows.
            outs: one or two ``[R, padded_columns]`` float tensors, written. With a perturbation the
                first gets ``W + eps * z`` and the second ``W - eps * z``; without one each gets the
                stored weight.
            perturbation: the direction to add; None for the stored weight.
            preference: kernel choice.

        Raises:
            TypeError: if elements of this format cannot move along a direction.
        """

    @abstractmethod
    def apply(self, rows: slice, update: Update, preference: Preference) -> None:
        """Move some rows in place.

        Args:
            rows: which rows.
            update: how far each element moves.
            preference: kernel choice.

        Raises:
            TypeError: if elements of this format cannot move.
        """

    def keep_views(self) -> None:  # noqa: B027 (most formats keep nothing)
        """Make the views that reads will reuse.

        Called when the weight is placed in a model. Made later, between activations, they would
        keep the allocator from using the memory around them again.
        """

    def activations(self, x: Tensor) -> Tensor:
        """The other factor of a product as this format takes it.

        Args:
            x: ``[..., columns]``.

        Returns:
            ``[..., padded_columns]``, padded with zeros.
        """
        short = self.padded_columns - self.columns
        return F.pad(x, (0, short)) if short else x  # F.pad copies, even where it adds nothing

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
            codes: ``[C, M, columns]`` int8 activations, for C versions of the weight.
            scale: ``[C * M, 1]`` float32, of each row of ``codes``.
            noise: direction on the codes of the weight, None for the stored codes.
            out: ``[C * M, rows]`` float, written.
            memory: for perturbed codes and int32 products.
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
            copies: number of versions.
            noise: direction on the codes, None for the stored codes.
            memory: for perturbed codes; its buffers are overwritten.
            preference: kernel choice.

        Returns:
            ``[R, columns]`` int8 of each version, and the scales, ``[R, 1, 1, 1]`` float32.

        Raises:
            TypeError: unless the weight has `integer_products`.
        """
        raise TypeError(f"{self.title} has no product of integers")

    def in_model_order(self, decoded: Tensor) -> Tensor:
        """Decoded rows without padding, their columns in the model's order.

        Args:
            decoded: ``[R, padded_columns]``, as `read` writes them.

        Returns:
            ``[R, columns]``.
        """
        return decoded[:, : self.columns]

    def in_stored_order(self, values: Tensor) -> Tensor:
        """Values of each column, in the order in which the columns are stored.

        Args:
            values: ``[R, columns]``, in the model's order.

        Returns:
            ``[R, columns]``.
        """
        return values

    def decoded(self, rows: Rows) -> Tensor:
        """Some rows of the stored weight, ``[R, columns]`` float32 in the model's order.

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
            floor: smallest size of a scale after the move. The scale keeps its sign.

        Raises:
            TypeError: if the format has no scales.
        """
        scales = self.scales()
        if not scales:
            raise TypeError(f"{self.title} has no scales")
        kept = torch.maximum(factor, floor / scales["scale"].abs())
        for part in scales.values():
            part.mul_(kept)

    def with_scales(self, factor: Tensor) -> "StoredWeight":
        """A weight that shares the codes of this one and has its scales and zeros multiplied.

        Args:
            factor: ``[rows, groups]`` float32.
        """
        scales = {name: part * factor for name, part in self.scales().items()}
        return self.replace(self.tensors() | scales)

    def describe(self) -> dict[str, Any]:
        """The format in plain values, for checkpoints and reports."""
        return {"format": self.format_name, "rows": self.rows, "columns": self.columns}
