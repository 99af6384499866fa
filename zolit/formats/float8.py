"""Float8 (e4m3) weights. Products may round their activations to float8 as well."""

import torch
from torch import Tensor

from zolit.formats.affine import ByteWeight, quantize_rows
from zolit.formats.base import Affine
from zolit.kernels.accumulate import whole_step
from zolit.kernels.arguments import Perturbation, Stored, Update
from zolit.kernels.dispatch import kernel
from zolit.kernels.read import write_versions
from zolit.kernels.rounding import integer_draw, length_in_codes, with_residual

_LARGEST = 0x7E
"""The code of 448, the largest finite e4m3 number."""


def decode_e4m3(bits: Tensor) -> Tensor:
    """Values of e4m3 numbers.

    The seven bits below the sign are moved to where float32 has the low bits of its exponent and
    the high bits of its mantissa. They then read as the value, once the exponent's bias of 7 is
    made float32's 127. Numbers below 2**-6 are multiples of 2**-9. They take a branch of their own,
    because compiled code may flush float32 subnormals to zero.

    Args:
        bits: int8 bit patterns of finite e4m3 numbers.

    Returns:
        float32 of the same shape.
    """
    code = bits.to(torch.int32)
    magnitude = code & 0x7F
    normal = ((magnitude << 20) + (120 << 23)).view(torch.float32)
    value = torch.where(magnitude < 8, magnitude.float() * 2.0**-9, normal)
    return torch.where(code < 0, -value, value)


def encode_e4m3(value: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Round float32 values stochastically onto the e4m3 grid.

    The code of a positive e4m3 number, read as an integer, is a piecewise linear function of its
    value. A float32 number holds the same code with 20 further bits. To add a random 20-bit integer
    and then cut these bits off rounds up with a probability equal to the fraction that they hold.
    Below 2**-6 the grid is uniform.

    Args:
        value: float32.
        draw: int32 of the same shape, uniform in [0, 2**20).

    Returns:
        int32 codes, with the sign in bit 7, and a bool tensor: whether the rounded value is at most
        448 in size, so that it has a code.
    """
    size = value.abs()
    normal = size.view(torch.int32) - (120 << 23)
    fixed = (size.clamp(max=2.0**-6) * 2.0**29).to(torch.int32)
    magnitude = (torch.where(size < 2.0**-6, fixed, normal) + draw) >> 20
    code = torch.where(value < 0, magnitude | 0x80, magnitude)
    return code, (size < 512.0) & (magnitude <= _LARGEST)


@kernel
def read_float8(stored: Stored, outs: list[Tensor], noise: Perturbation | None = None) -> None:
    """``outs = value(codes) * scale +- (amplitude[0] * scale + amplitude[1]) * z``.

    Args:
        stored: codes ``[R, G, W, 32]`` int8 view of e4m3 codes; scale ``[R, G, 1, 1]``.
        outs: one or two ``[R, G, W, 32]`` float tensors.
        noise: the direction, None to read without.
    """
    scale: Tensor = stored.scale  # type: ignore[assignment]
    write_versions(decode_e4m3(stored.codes) * scale, stored, outs, noise)


@kernel
def move_float8(stored: Stored, update: Update) -> None:
    """``codes = round(value(codes) + step * (unit[0] + unit[1] / scale) + decay * residual)``.

    Rounding is stochastic without a residual and to nearest with one, as in `move_codes`. A code
    that the step would take out of ``[-448, 448]`` stays where it is.

    Args:
        stored: as for `read_float8`.
        update: step and residual ``[R, G, W, 32]``.
    """
    codes = stored.codes
    old = decode_e4m3(codes)
    move = whole_step(update, codes, stored.rows) * length_in_codes(update, stored)
    move = with_residual(move, update)
    code, fits = encode_e4m3(old + move, integer_draw(update, stored.rows, codes, 20))
    moved = torch.where(fits, code, codes.to(torch.int32)).to(torch.int8)
    if update.residual is not None:
        update.residual.copy_((old + move - decode_e4m3(moved)).to(update.residual.dtype))
    codes.copy_(moved)


class Float8Weight(ByteWeight):
    """Float8 numbers (e4m3) with a scale for each row. The unit of a code is one scale.

    Args:
        codes: ``[rows, columns]`` float8.
        scale: ``[rows, 1]`` float32.
        activation_dtype: float8 rounds the activations of each token as well (`emulate_float8`);
            None leaves them as they are.

    Example:
        >>> store = Float8Weight.quantize(torch.tensor([[1.0, -2.0, 0.5]]))
        >>> store.codes.float()
        tensor([[ 224., -448.,  112.]])
    """

    levels = 896
    read_kernel = read_float8
    move_kernel = move_float8

    def __init__(
        self, codes: Tensor, scale: Tensor, activation_dtype: torch.dtype | None = None
    ) -> None:
        self.codes, self.scale, self.activation_dtype = codes, scale, activation_dtype
        self.rows, self.columns = codes.shape

    @classmethod
    def quantize(
        cls, weight: Tensor, activation_dtype: torch.dtype | None = None
    ) -> "Float8Weight":
        """Round ``[R, K]`` floats to nearest, with ``scale = max |w| / 448`` of each row."""

        def quantize(part: Tensor) -> tuple[Tensor, Tensor]:
            scale = (part.abs().amax(dim=1, keepdim=True) / 448.0).clamp(min=1e-12)
            return part.div_(scale).to(torch.float8_e4m3fn), scale

        codes, scale = quantize_rows(quantize, weight)
        return cls(codes, scale, activation_dtype)

    @property
    def format_name(self) -> str:
        return "Float8Weight" if self.activation_dtype is None else "EmulatedFloat8Weight"

    def affine(self) -> Affine:
        return Affine(self.codes, self.scale, None, 8, -448)

    def replace(self, tensors: dict[str, Tensor]) -> "Float8Weight":
        return Float8Weight(tensors["codes"], tensors["scale"], self.activation_dtype)

    def activations(self, x: Tensor) -> Tensor:
        return super().activations(x if self.activation_dtype is None else emulate_float8(x))


def emulate_float8(x: Tensor) -> Tensor:
    """Round each row to e4m3 with a scale of ``max |x| / 448``, and decode it again.

    This emulates float8 activations on machines without float8 products: the numbers are those of
    the format, and the product is taken in the dtype of ``x``.

    Args:
        x: ``[..., K]`` float.

    Returns:
        Shape and dtype of ``x``.
    """
    value = x.float()
    scale = (value.abs().amax(dim=-1, keepdim=True) / 448.0).clamp(min=1e-12)
    return ((value / scale).to(torch.float8_e4m3fn).float() * scale).to(x.dtype)
