"""Codes of a few bits, each bit in a plane of its own.

Codes of n bits are stored in n planes. For each word of 32 columns plane k holds one int32, in
which bit ``lane`` is bit k of the code in column ``lane``. So codes of any number of bits, 3
included, are stored without a wasted bit, and no code lies across the border of two words.
"""

import torch
from torch import Tensor

from zolit.formats.affine import AffineWeight
from zolit.formats.base import Affine
from zolit.formats.layout import to_blocks
from zolit.formats.rows import Rows, chunks
from zolit.kernels.arguments import Perturbation, Stored, Update
from zolit.kernels.dispatch import kernel
from zolit.kernels.read import scaled, write_versions
from zolit.kernels.rounding import move_codes
from zolit.noise import lane_indices

HALF_WORD = 16
"""Columns that share a scale in some K-quants of GGUF: half a word."""

_CHUNK_ROWS = 256
"""Rows that are packed at once. Their codes are held as int32 beside the result."""


def unpack_planes(planes: list[Tensor]) -> Tensor:
    """The codes in n planes.

    Args:
        planes: n times ``[..., 1]`` int32.

    Returns:
        ``[..., 32]`` int32 in [0, 2**n - 1].
    """
    lane = lane_indices(planes[0].device)
    codes = (planes[0] >> lane) & 1
    for place, plane in enumerate(planes[1:], start=1):
        # Not as a sum over a dimension, which inductor does not vectorize: 300 times slower.
        codes = codes | (((plane >> lane) & 1) << place)
    return codes


def pack_planes(codes: Tensor, bits: int) -> list[Tensor]:
    """The inverse of `unpack_planes`: ``[..., 32]`` int32 codes as ``bits`` planes ``[..., 1]``.

    Example:
        >>> codes = torch.arange(32, dtype=torch.int32) % 8
        >>> torch.equal(unpack_planes(pack_planes(codes, bits=3)), codes)
        True
    """
    lane = lane_indices(codes.device)
    return [
        (((codes >> place) & 1) << lane).sum(-1, keepdim=True, dtype=codes.dtype)
        for place in range(bits)
    ]


def _codes(stored: Stored) -> Tensor:
    """Codes in the shape of decoded values: halves of a word where each half has its scale."""
    codes = unpack_planes(stored.codes)
    in_halves = stored.scale is not None and stored.scale.dim() == 5
    return codes.unflatten(-1, (2, HALF_WORD)) if in_halves else codes


@kernel
def read_planes(stored: Stored, outs: list[Tensor], noise: Perturbation | None = None) -> None:
    """``outs = codes * scale + zero +- (amplitude[0] * scale + amplitude[1]) * z``.

    Args:
        stored: codes ``n`` times ``[R, G, W, 1]`` int32; scale and zero ``[R, G, 1, 1]``, or
            ``[R, W, 1, 2, 1]``, one for each half of a word. Without a zero the value of code
            ``2**(n - 1)`` is 0.
        outs: one or two ``[R, G, W, 32]`` float tensors, or ``[R, W, 1, 2, 16]``.
        noise: the direction, None to read without.
    """
    codes = _codes(stored)
    if stored.zero is None:
        codes = codes - 2 ** (len(stored.codes) - 1)
    write_versions(scaled(codes, stored), stored, outs, noise)


@kernel
def move_planes(stored: Stored, update: Update) -> None:
    """Codes moved, rounded and kept in range (`move_codes`), in place.

    Args:
        stored: as for `read_planes`.
        update: step and residual in the shape of decoded values.
    """
    bits = len(stored.codes)
    moved = move_codes(_codes(stored), stored, update, 0, 2**bits - 1)
    words = moved.flatten(-2) if moved.dim() == 5 else moved
    for plane, new in zip(stored.codes, pack_planes(words, bits), strict=True):
        plane.copy_(new)


class BitPlanesWeight(AffineWeight):
    """Codes of n bits in [0, 2**n - 1], which take n bits of memory each.

    Args:
        planes: n times ``[rows, columns / 32]`` int32. Each is a tensor of its own, because a
            kernel cannot write to several views of one tensor.
        scale: ``[rows, groups]`` float32, for groups of 16 columns or of a multiple of 32.
        zero: ``[rows, groups]`` float32, the value of code 0; None where the value of code
            ``2**(n - 1)`` is 0.

    Example:
        >>> codes = torch.arange(32).view(1, 32) % 8
        >>> store = BitPlanesWeight.of_codes(codes, 3, torch.ones(1, 1), None)
        >>> len(store.planes), torch.equal(store.codes(), codes.int())
        (3, True)
    """

    read_kernel = read_planes
    move_kernel = move_planes

    def __init__(self, planes: list[Tensor], scale: Tensor, zero: Tensor | None) -> None:
        self.planes, self.scale, self.zero = planes, scale, zero
        self.rows, self.columns = planes[0].shape[0], 32 * planes[0].shape[1]
        self.levels = 1 << len(planes)

    @classmethod
    def of_codes(
        cls, codes: Tensor, bits: int, scale: Tensor, zero: Tensor | None
    ) -> "BitPlanesWeight":
        """Pack ``[rows, columns]`` integer codes of ``bits`` bits; columns a multiple of 32."""
        planes = [
            torch.empty(codes.shape[0], codes.shape[1] // 32, dtype=torch.int32)
            for _ in range(bits)
        ]
        for rows in chunks(codes.shape[0], _CHUNK_ROWS):
            blocks = to_blocks(codes[rows].to(torch.int32)).squeeze(1)
            for plane, part in zip(planes, pack_planes(blocks, bits), strict=True):
                plane[rows] = part.squeeze(-1)
        return cls([plane.to(codes.device) for plane in planes], scale, zero)

    @property
    def bits(self) -> int:
        """Number of bits of a code."""
        return len(self.planes)

    @property
    def in_halves(self) -> bool:
        """Whether each half of a word has a scale of its own."""
        return self.columns == HALF_WORD * self.groups

    @property
    def title(self) -> str:
        return f"BitPlanesWeight of {self.bits} bits"

    @property
    def format_name(self) -> str:
        return f"{'HalfWordWeight' if self.in_halves else 'GroupedWeight'} of {self.bits} bits"

    def codes(self) -> Tensor:
        """Unpacked codes, ``[rows, columns]`` int32."""
        return unpack_planes([plane.unsqueeze(-1) for plane in self.planes]).flatten(1)

    def zeros(self) -> Tensor:
        return -(2.0 ** (self.bits - 1)) * self.scale if self.zero is None else self.zero

    def affine(self) -> Affine:
        middle = 0 if self.zero is not None else 1 << (self.bits - 1)
        return Affine(self.codes() - middle, self.scale, self.zero, self.bits, -middle)

    def tensors(self) -> dict[str, Tensor]:
        return {f"plane{k}": plane for k, plane in enumerate(self.planes)} | self.scales()

    def replace(self, tensors: dict[str, Tensor]) -> "BitPlanesWeight":
        planes = [tensors[f"plane{k}"] for k in range(self.bits)]
        return BitPlanesWeight(planes, tensors["scale"], tensors.get("zero"))

    def code_blocks(self, rows: Rows) -> list[Tensor]:
        groups = self.words if self.in_halves else self.groups
        return [p[rows].unflatten(1, (groups, -1)).unsqueeze(-1) for p in self.planes]

    def value_blocks(self, buffer: Tensor) -> Tensor:
        if self.in_halves:
            return to_blocks(buffer, self.words).unflatten(-1, (2, HALF_WORD))
        return to_blocks(buffer, self.groups)

    def part_blocks(self, part: Tensor) -> Tensor:
        if self.in_halves:
            return part.view(-1, self.words, 1, 2, 1)
        return part.view(-1, self.groups, 1, 1)
