"""The codes of GGUF blocks as stored weights: nothing is decoded."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zolit.coordinates.scales import SCALE_FLOOR
from zolit.formats.base import StoredWeight
from zolit.formats.bit_planes import HALF_WORD, BitPlanesWeight
from zolit.formats.int4 import Int4Weight, pack_codes
from zolit.formats.int8 import Int8Weight


@dataclass(frozen=True)
class BlockCodes:
    """``weight = scale * code + zero`` of GGUF blocks, by group of 16 or 32 columns.

    Attributes:
        bits: of a code.
        codes: ``[rows, columns]`` uint8.
        scale: ``[rows, groups]`` float32, of either sign, 0 for groups of one value.
        zero: ``[rows, groups]`` float32, the value of code 0; None where ``2**(bits - 1)`` is 0.
    """

    bits: int
    codes: Tensor
    scale: Tensor
    zero: Tensor | None


def block_weight(found: BlockCodes) -> StoredWeight:
    """A matrix of GGUF blocks as a stored weight.

    Its codes take as many bits as on disk; each scale and zero of a group takes four bytes.
    """
    found = _without_zero_scales(found)
    bits, codes, scale, zero = found.bits, found.codes, found.scale, found.zero
    if codes.shape[1] == HALF_WORD * scale.shape[1]:
        return BitPlanesWeight.of_codes(codes, bits, scale, zero)
    if bits == 4:
        # Int4Weight stores code - 8; the zero makes up for it.
        shifted = None if zero is None else zero + 8.0 * scale
        return Int4Weight(pack_codes(codes.view(torch.int8) - 8), scale, shifted)
    if bits == 8 and zero is None:
        return Int8Weight((codes ^ 128).view(torch.int8), scale)
    return BitPlanesWeight.of_codes(codes, bits, scale, zero)


def _without_zero_scales(found: BlockCodes) -> BlockCodes:
    """Replace scales of 0 by the smallest scale, as a step in weights divides by the scale.

    A group with a scale of 0 has one value, whatever its codes are: they become the code of that
    value.
    """
    empty = found.scale == 0
    if not empty.any():
        return found
    wide = empty.repeat_interleave(found.codes.shape[1] // empty.shape[1], dim=1)
    still = 0 if found.zero is not None else 2 ** (found.bits - 1)
    return replace(
        found,
        codes=found.codes.masked_fill(wide, still),
        scale=found.scale.masked_fill(empty, SCALE_FLOOR),
    )
