"""Int8 weights. Products decode them, or are of integers with int8 activations (W8A8)."""

import torch
from torch import Tensor

from zolit.formats.affine import ByteWeight, quantize_rows
from zolit.formats.base import Affine
from zolit.formats.layout import to_blocks
from zolit.formats.memory import Memory
from zolit.formats.rows import chunks
from zolit.kernels.activations import integer_products
from zolit.kernels.arguments import Perturbation, Stored, Update, on_rows
from zolit.kernels.dispatch import Preference, kernel
from zolit.kernels.read import scaled, write_versions
from zolit.kernels.rounding import move_codes
from zolit.noise import check_lanes, coordinates


@kernel
def read_int8(stored: Stored, outs: list[Tensor], noise: Perturbation | None = None) -> None:
    """``outs = codes * scale + zero +- (amplitude[0] * scale + amplitude[1]) * z``.

    Args:
        stored: codes ``[R, G, W, 32]`` int8; scale and zero ``[R, G, 1, 1]``.
        outs: one or two ``[R, G, W, 32]`` float tensors.
        noise: the direction, None to read without.
    """
    write_versions(scaled(stored.codes, stored), stored, outs, noise)


@kernel
def move_int8(stored: Stored, update: Update) -> None:
    """Codes moved, rounded and kept in range (`move_codes`), in place.

    Args:
        stored: as for `read_int8`.
        update: step and residual ``[R, G, W, 32]``.
    """
    moved = move_codes(stored.codes.to(torch.int32), stored, update, -128, 127)
    stored.codes.copy_(moved.to(torch.int8))


@kernel
def perturb_codes(stored: Stored, outs: list[Tensor], noise: Perturbation) -> None:
    """``outs = codes +- amplitude[0] * z``, in whole codes, for products of integers.

    A code that would leave the int8 range at plus or at minus stays in both, so that the two
    versions remain symmetric about the stored codes.

    Args:
        stored: as for `read_int8`.
        outs: one or two ``[R, G, W, 32]`` int8 tensors.
        noise: the direction. ``amplitude[0]`` times its grid step must be an integer, and
            ``amplitude[1]`` must be 0.
    """
    check_lanes(stored.codes)
    code = stored.codes.to(torch.int32)
    shape = code.shape[1], code.shape[2]
    z = coordinates(noise.direction, noise.control, stored.rows, *shape, noise.bits)
    jump = torch.floor(noise.amplitude[0] * z + 0.5).to(torch.int32)
    inside = (code + jump.abs() <= 127) & (code - jump.abs() >= -128)
    jump = torch.where(inside, jump, 0)
    outs[0].copy_((code + jump).to(torch.int8))
    if len(outs) == 2:
        outs[1].copy_((code - jump).to(torch.int8))


class Int8Weight(ByteWeight):
    """Int8 codes with a scale, and perhaps a zero, for each row or group of columns.

    Args:
        codes: ``[rows, columns]`` int8.
        scale: ``[rows, groups]`` float32.
        zero: ``[rows, groups]`` float32, the value of code 0; None where it is 0 everywhere.
        activation_dtype: int8 quantizes the activations of each token and multiplies integers,
            which takes one scale for each row and no zero. None multiplies decoded weights.

    Raises:
        ValueError: if ``activation_dtype`` is int8 and there are groups or zeros.

    Example:
        >>> store = Int8Weight.quantize(torch.tensor([[1.0, -2.0, 0.5]]), None)
        >>> store.codes
        tensor([[  64, -127,   32]], dtype=torch.int8)
    """

    read_kernel = read_int8
    move_kernel = move_int8

    def __init__(
        self,
        codes: Tensor,
        scale: Tensor,
        zero: Tensor | None = None,
        activation_dtype: torch.dtype | None = None,
    ) -> None:
        self.codes, self.scale, self.zero = codes, scale, zero
        self.activation_dtype = activation_dtype
        self.rows, self.columns = codes.shape
        if self.integer_products and (zero is not None or self.groups > 1):
            raise ValueError(
                f"products of integers take one scale a row and no zero, got {self.groups} scales "
                f"a row{'' if zero is None else ' and zeros'}; use activation_dtype=None"
            )

    @classmethod
    def quantize(
        cls, weight: Tensor, group_size: int | None, activation_dtype: torch.dtype | None = None
    ) -> "Int8Weight":
        """Round to nearest, symmetric: ``scale = max |w| / 127`` of the row or group.

        Args:
            weight: ``[R, K]`` float.
            group_size: columns that share a scale; None for all of a row.
            activation_dtype: see the class.
        """

        def quantize(part: Tensor) -> tuple[Tensor, Tensor]:
            groups = part.view(part.shape[0], -1, group_size or part.shape[1])
            scale = (groups.abs().amax(dim=2) / 127.0).clamp(min=1e-12)
            groups.div_(scale.unsqueeze(2)).round_()
            return part.to(torch.int8), scale

        codes, scale = quantize_rows(quantize, weight)
        return cls(codes, scale, activation_dtype=activation_dtype)

    @property
    def format_name(self) -> str:
        if self.integer_products:
            return "IntegerWeight"
        return "Int8Weight" if self.zero is None else "Int8ZeroWeight"

    def affine(self) -> Affine:
        return Affine(self.codes, self.scale, self.zero, 8, -128)

    def replace(self, tensors: dict[str, Tensor]) -> "Int8Weight":
        parts = tensors["codes"], tensors["scale"], tensors.get("zero")
        return Int8Weight(*parts, self.activation_dtype)

    def multiply(
        self,
        codes: Tensor,
        scale: Tensor,
        noise: Perturbation | None,
        out: Tensor,
        memory: Memory,
        preference: Preference,
    ) -> None:
        def buffer(tokens: int, outputs: int) -> Tensor:
            return memory.buffers(1, tokens, outputs, torch.int32, codes.device).parts[0]

        copies, _, columns = codes.shape
        for rows in chunks(self.rows, memory.rows_per_chunk(columns, 1)):
            weights, sizes = self.code_versions(rows, copies, noise, memory, preference)
            target = out if rows.stop - rows.start == self.rows else out[:, rows]
            integer_products(codes, scale, weights, sizes, target, buffer, preference)

    def code_versions(
        self,
        rows: slice,
        copies: int,
        noise: Perturbation | None,
        memory: Memory,
        preference: Preference,
    ) -> tuple[list[Tensor], Tensor]:
        if not self.integer_products:
            return super().code_versions(rows, copies, noise, memory, preference)
        stored = self.stored(rows)
        weights = [self.bytes(rows)] * copies
        if noise is not None:
            shape = (rows.stop - rows.start, self.padded_columns)
            parts = memory.buffers(copies, *shape, torch.int8, self.device).parts
            outs = [to_blocks(part) for part in parts]
            perturb_codes(stored, outs, on_rows(noise, rows), preference=preference)
            weights = [part[:, : self.columns] for part in parts]
        sizes: Tensor = stored.scale  # type: ignore[assignment]
        return weights, sizes
