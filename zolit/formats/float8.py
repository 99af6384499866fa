"""Float8 (e4m3) weights; their activations may be rounded to float8 as well."""

import torch
from torch import Tensor

from zolit.formats.affine import ByteWeight, quantize_rows
from zolit.formats.base import Affine
from zolit.kernels.accumulate import whole_step
from zolit.kernels.arguments import Perturbation, Stored, Update
from zolit.kernels.dispatch import kernel
from zolit.kernels.read import write_versions
from zolit.kernels.rounding import lane_counters, length_in_codes
from zolit.noise import hash_words

_LARGEST = 0x7E
"""Code of 448, the largest finite e4m3 number."""


def decode_e4m3(bits: Tensor) -> Tensor:
    """Values of e4m3 bit patterns: int8 to float32, finite patterns only.

    The seven magnitude bits, moved to the top of float32's exponent and mantissa, are the value
    with an exponent bias of 127 instead of 7. Numbers below 2**-6 are fixed point; they take a
    branch of their own because subnormals may be flushed to zero in compiled code.
    """
    code = bits.to(torch.int32)
    magnitude = code & 0x7F
    normal = ((magnitude << 20) + (120 << 23)).view(torch.float32)
    value = torch.where(magnitude < 8, magnitude.float() * 2.0**-9, normal)
    return torch.where(code < 0, -value, value)


def encode_e4m3(value: Tensor, draw: Tensor) -> tuple[Tensor, Tensor]:
    """Round float32 values stochastically onto the e4m3 grid.

    A positive e4m3 code read as an integer is a piecewise linear function of its value, and
    float32 carries 20 further bits of it: adding a 20-bit random integer before they are cut off
    rounds up with probability equal to the fraction. Below 2**-6 the grid is uniform.

    Args:
        value: float32.
        draw: int32 of the same shape, uniform in [0, 2**20).

    Returns:
        int32 codes (sign in bit 7) and a bool tensor: whether the value fits, ``|v| <= 448``.
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

    Rounding is stochastic without a residual and to nearest with one, as in `move_codes`. A weight
    that would leave ``[-448, 448]`` (times its scale) stays.

    Args:
        stored: as for `read_float8`.
        update: step and residual ``[R, G, W, 32]``.
    """
    codes, residual, rounding = stored.codes, update.residual, update.rounding
    old = decode_e4m3(codes)
    move = whole_step(update, codes, stored.rows) * length_in_codes(update, stored)
    if residual is not None and update.decay is not None:
        move = move + update.decay * residual.float()
        draw = torch.full_like(codes, 1 << 19, dtype=torch.int32)
    else:
        draw = hash_words(lane_counters(stored.rows, codes), rounding[0], rounding[1]) & 0xFFFFF
    code, fits = encode_e4m3(old + move, draw)
    moved = torch.where(fits, code, codes.to(torch.int32)).to(torch.int8)
    if residual is not None:
        residual.copy_((old + move - decode_e4m3(moved)).to(residual.dtype))
    codes.copy_(moved)


class Float8Weight(ByteWeight):
    """e4m3 codes with a scale per row. A "code unit" is one scale.

    Args:
        codes: ``[rows, columns]`` float8.
        scale: ``[rows, 1]`` float32.
        activation_dtype: float8 rounds activations for each token as well (`emulate_float8`); None
            leaves them as they are.

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
        """Round ``[R, K]`` floats to nearest: ``scale = max |w| / 448`` of the row."""

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
    """Each row rounded to e4m3 with a scale of ``max |x| / 448``; shape and dtype of ``x``.

    Stands for float8 activations on machines without float8 products: the numbers are those of
    the format, the product is taken in the dtype of ``x``.
    """
    value = x.float()
    scale = (value.abs().amax(dim=-1, keepdim=True) / 448.0).clamp(min=1e-12)
    return ((value / scale).to(torch.float8_e4m3fn).float() * scale).to(x.dtype)
