"""Read the blocks of a GGUF file: codes with their scales, nothing decoded (ggml's ggml-common.h).

A row is a sequence of blocks: of 32 columns with a float16 scale ``d`` (and minimum ``m``), or, for
the K-quants, of 256 columns in sub-blocks of 16 or 32, whose scales are small integers times the
block's ``d`` (and ``dmin``). With code c of a sub-block of scale s

- ``Q4_0 Q5_0 Q8_0 Q3_K Q6_K``: ``weight = s * (c - 2**(bits - 1))``; s may be negative;
- ``Q4_1 Q5_1 Q2_K Q4_K Q5_K``: ``weight = s * c + zero``.
"""

from collections.abc import Callable

import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
from torch import Tensor

from zolit.models.gguf.blocks import BlockCodes

SUPER = 256
"""Columns of a block of a K-quant."""


def read_blocks(blocks: Tensor, kind: GGMLQuantizationType) -> BlockCodes:
    """Codes and scales of a matrix.

    Args:
        blocks: ``[rows, bytes]`` uint8.
        kind: a key of `READERS`.
    """
    rows = len(blocks)
    parts = blocks.view(rows, -1, GGML_QUANT_SIZES[kind][1])
    bits, codes, scale, zero = READERS[kind](parts)
    return BlockCodes(
        bits,
        codes.reshape(rows, -1),
        scale.reshape(rows, -1),
        None if zero is None else zero.reshape(rows, -1),
    )


_Parts = tuple[int, Tensor, Tensor, Tensor | None]
"""Bits, codes, scales and zeros of ``[rows, blocks, bytes]``, each ``[rows, blocks, ...]``."""


def _split(blocks: Tensor, *sizes: int) -> tuple[Tensor, ...]:
    """Parts of these sizes in bytes, and the rest of the bytes last."""
    return torch.split(blocks, [*sizes, blocks.shape[-1] - sum(sizes)], dim=-1)


def _half(two_bytes: Tensor) -> Tensor:
    return two_bytes.contiguous().view(torch.float16).float()


def _fields(data: Tensor, width: int, bits: int) -> Tensor:
    """Fields of ``bits`` bits, those in the low bits of ``width`` bytes before those above them.

    Args:
        data: ``[rows, blocks, bytes]`` uint8.
        width: bytes whose fields follow one another.
        bits: 1, 2 or 4.

    Returns:
        ``[rows, blocks, bytes * 8 / bits]`` uint8.
    """
    shifts = torch.arange(0, 8, bits, dtype=torch.uint8).unsqueeze(1)
    wide = data.unflatten(-1, (-1, 1, width)) >> shifts
    return (wide & (2**bits - 1)).flatten(2)


def _q4_0(blocks: Tensor) -> _Parts:
    d, codes = _split(blocks, 2)
    return 4, _fields(codes, 16, 4), _half(d), None


def _q4_1(blocks: Tensor) -> _Parts:
    d, m, codes = _split(blocks, 2, 2)
    return 4, _fields(codes, 16, 4), _half(d), _half(m)


def _fifth_bit(top: Tensor) -> Tensor:
    """Bit i of four bytes, for column i: its value in a code."""
    return _fields(top, 1, 1) << 4


def _q5_0(blocks: Tensor) -> _Parts:
    d, top, low = _split(blocks, 2, 4)
    return 5, _fields(low, 16, 4) | _fifth_bit(top), _half(d), None


def _q5_1(blocks: Tensor) -> _Parts:
    d, m, top, low = _split(blocks, 2, 2, 4)
    return 5, _fields(low, 16, 4) | _fifth_bit(top), _half(d), _half(m)


def _q8_0(blocks: Tensor) -> _Parts:
    d, codes = _split(blocks, 2)
    return 8, codes ^ 128, _half(d), None  # signed in the file


def _q2_k(blocks: Tensor) -> _Parts:
    scales, codes, d, dmin = _split(blocks, SUPER // 16, SUPER // 4, 2)
    scale, low = _half(d) * (scales & 15).float(), _half(dmin) * (scales >> 4).float()
    return 2, _fields(codes, 32, 2), scale, -low


def _q3_k(blocks: Tensor) -> _Parts:
    top, low, packed, d = _split(blocks, SUPER // 8, SUPER // 4, 12)
    # Eight bytes of four low bits, four bytes of two high bits, each in interleaved order.
    four, two = _split(packed, 8)
    scales = _fields(four, 8, 4) | (_fields(two, 4, 2) << 4)
    codes = _fields(low, 32, 2) | (_fields(top, 32, 1) << 2)
    return 3, codes, _half(d) * (scales.float() - 32), None


def _sixes(packed: Tensor) -> tuple[Tensor, Tensor]:
    """Eight scales and eight minima of six bits in twelve bytes, float32."""
    scale, low, mixed = packed.unflatten(-1, (3, 4)).unbind(-2)
    scales = torch.cat((scale & 63, (mixed & 15) | ((scale >> 2) & 48)), dim=-1)
    lows = torch.cat((low & 63, (mixed >> 4) | ((low >> 2) & 48)), dim=-1)
    return scales.float(), lows.float()


def _q4_k(blocks: Tensor) -> _Parts:
    d, dmin, packed, codes = _split(blocks, 2, 2, 12)
    scales, lows = _sixes(packed)
    return 4, _fields(codes, 32, 4), _half(d) * scales, -(_half(dmin) * lows)


def _q5_k(blocks: Tensor) -> _Parts:
    d, dmin, packed, top, low = _split(blocks, 2, 2, 12, SUPER // 8)
    scales, lows = _sixes(packed)
    codes = _fields(low, 32, 4) | (_fields(top, 32, 1) << 4)
    return 5, codes, _half(d) * scales, -(_half(dmin) * lows)


def _q6_k(blocks: Tensor) -> _Parts:
    low, top, scales, d = _split(blocks, SUPER // 2, SUPER // 4, SUPER // 16)
    codes = _fields(low, 64, 4) | (_fields(top, 32, 2) << 4)
    return 6, codes, _half(d) * scales.contiguous().view(torch.int8).float(), None


READERS: dict[GGMLQuantizationType, Callable[[Tensor], _Parts]] = {
    GGMLQuantizationType.Q4_0: _q4_0,
    GGMLQuantizationType.Q4_1: _q4_1,
    GGMLQuantizationType.Q5_0: _q5_0,
    GGMLQuantizationType.Q5_1: _q5_1,
    GGMLQuantizationType.Q8_0: _q8_0,
    GGMLQuantizationType.Q2_K: _q2_k,
    GGMLQuantizationType.Q3_K: _q3_k,
    GGMLQuantizationType.Q4_K: _q4_k,
    GGMLQuantizationType.Q5_K: _q5_k,
    GGMLQuantizationType.Q6_K: _q6_k,
}
"""Block formats that are kept as they are."""
