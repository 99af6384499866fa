"""Stored weights as the blocks of GGUF: 32 neighbouring codes of a row with a float16 scale.

Q8_0 is ``d * code`` with int8 codes, Q4_0 ``d * (code - 8)`` and Q4_1 ``d * code + m`` with codes
in [0, 15], of which byte i holds code i in its low nibble and code i + 16 in its high one
(ggml-common.h).
"""

from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType as Kind
from gguf import dequantize, quantize
from torch import Tensor

from zolit.formats.base import StoredWeight

BLOCK = 32
_CLOSE = 1.01 * 2.0**-11
"""Largest error of a weight ``d * code + m``, relative to the sizes of the two terms: float16
rounds each number by at most this, if it can hold the number at all."""
_NOTHING = 2.0**-16
"""The same relative to the largest weight of the matrix, for blocks of far smaller weights."""

Array = np.ndarray[Any, Any]


def exact_blocks(store: StoredWeight, kind: Kind) -> Array | None:
    """The codes of a weight, unchanged, in blocks of a kind.

    Args:
        store: a weight in any format.
        kind: Q8_0, Q4_0 or Q4_1.

    Returns:
        ``[rows, bytes]`` uint8; None if the format cannot hold such codes, or if float16 cannot
        hold the scales.
    """
    found = store.affine()
    if found is None or found.codes.is_floating_point() or store.columns % BLOCK:
        return None
    codes, scale, zero = found.codes, found.scale, found.zero
    groups = scale.shape[1]
    if store.columns // groups % BLOCK:
        return None
    repeats = store.columns // groups // BLOCK
    scale = scale.repeat_interleave(repeats, dim=1)
    zero = None if zero is None else zero.repeat_interleave(repeats, dim=1)
    blocks = codes.unflatten(1, (-1, BLOCK))
    made = _pack(blocks, scale, zero, kind)
    if made is None or not _close(made, kind, blocks, scale, zero):
        return None
    return made


def nearest_blocks(weight: Tensor, kind: Kind) -> Array:
    """Floats rounded to blocks as ggml rounds them.

    Args:
        weight: ``[rows, columns]`` float, columns a multiple of 32.
        kind: of the blocks.

    Returns:
        ``[rows, bytes]`` uint8.
    """
    found: Array = quantize(weight.float().numpy(), kind)
    return found


def _pack(blocks: Tensor, scale: Tensor, zero: Tensor | None, kind: Kind) -> Array | None:
    """``[rows, bytes]`` of codes ``[rows, blocks, 32]``; None if the kind cannot hold them."""
    low, high = (int(one) for one in blocks.aminmax())
    if kind == Kind.Q8_0:
        if zero is not None:
            return None
        return _joined(_halves(scale), blocks.to(torch.int8).view(torch.uint8))
    if high - low > 15 or low < -8 or (low < 0 and high > 7):
        return None
    shift = 8 if low < 0 or zero is None else 0
    nibbles = (blocks + shift).to(torch.uint8)
    packed = nibbles[..., :16] | (nibbles[..., 16:] << 4)
    if kind == Kind.Q4_0:
        return None if zero is not None else _joined(_halves(scale), packed)
    least = (0.0 if zero is None else zero) - shift * scale
    return _joined(_halves(scale), _halves(least), packed)


def _halves(values: Tensor) -> Tensor:
    """``[rows, blocks]`` as the two bytes of each in float16."""
    return values.to(torch.float16).unsqueeze(2).view(torch.uint8)


def _joined(*parts: Tensor) -> Array:
    found: Array = torch.cat(parts, dim=2).flatten(1).cpu().numpy()
    return found


def _close(made: Array, kind: Kind, blocks: Tensor, scale: Tensor, zero: Tensor | None) -> bool:
    """Whether a reader decodes the blocks to the weight, up to the rounding of float16."""
    there = torch.from_numpy(dequantize(made, kind)).view(blocks.shape)
    here = blocks * scale.unsqueeze(2)
    if zero is not None:
        here += zero.unsqueeze(2)
    # In four bits a weight is the least value, 8 codes below code 0, plus up to 15 steps.
    size = blocks.abs().clamp(min=23) * scale.abs().unsqueeze(2)
    if zero is not None:
        size += zero.abs().unsqueeze(2)
    allowed = torch.maximum(_CLOSE * size, _NOTHING * here.abs().max())
    return bool(((there - here).abs() <= allowed).all())
