"""Read GPTQ layers: packed codes with a scale and a zero point for each group of columns.

The layout is that of GPTQ-for-LLaMa, AutoGPTQ and GPTQModel. A layer of N rows (outputs) and K
columns (inputs) in G groups has

- ``qweight`` ``[K * bits / 32, N]`` int32: codes of an output along the first dimension, as one
  stream of bits, low bits first (so that 3-bit codes cross words);
- ``qzeros`` ``[G, N * bits / 32]`` int32: zero points of a group, the same stream of bits along the
  second dimension; less one in files of the first format;
- ``scales`` ``[G, N]`` float16;
- ``g_idx`` ``[K]`` int32: group of each column. With act-order (``desc_act``) columns of a group
  are scattered; without, the tensor may be missing.

``weight[n, k] = scales[g, n] * (code[n, k] - zero[g, n])`` where ``g = g_idx[k]``.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.models.loading.prequantized.layer import (
    FLOATS,
    GroupedCodes,
    LayerTensors,
    declared_otherwise,
)

BITS = (2, 3, 4, 8)
_CHUNK = 1 << 22
"""Codes unpacked at once. Each takes a 64-bit word beside the result."""


@dataclass(frozen=True)
class GptqFormat:
    """What config.json says of a GPTQ checkpoint.

    Attributes:
        bits: of a code: 2, 3, 4 or 8.
        group_size: columns that share a scale, -1 for all of them.
        zeros_less_one: whether stored zero points are one too small (``checkpoint_format: gptq``,
            the first format; ``gptq_v2`` stores them as they are).
        symmetric: whether config.json says that all zero points are the middle code.
        marks: names of tensors by which a layer of this format is recognized.
        parts: names of all tensors of a layer.
    """

    marks: ClassVar[tuple[str, ...]] = ("qweight",)
    parts: ClassVar[frozenset[str]] = frozenset({"qweight", "qzeros", "scales", "g_idx", "bias"})

    bits: int
    group_size: int
    zeros_less_one: bool
    symmetric: bool = False

    def __str__(self) -> str:
        return f"quant_method=gptq with bits={self.bits} and group_size={self.group_size}"


def gptq_format(config: dict[str, Any], file: str) -> GptqFormat:
    """The format that a ``quantization_config`` declares.

    Args:
        config: with ``quant_method: gptq``.
        file: that holds it, for messages.

    Raises:
        UserError: if zolit does not read this variant.
    """

    def refuse(key: str, expected: str) -> UserError:
        advice = "give a GPTQ checkpoint of that kind or a float model with quantizer Int4"
        return declared_otherwise(config, key, file, expected, advice)

    bits, group_size = config.get("bits"), config.get("group_size", -1)
    if bits not in BITS:
        raise refuse("bits", "2, 3, 4 or 8")
    if not isinstance(group_size, int) or (group_size < 1 and group_size != -1):
        raise refuse("group_size", "a positive number or -1")
    if config.get("dynamic"):
        raise refuse("dynamic", "one format for all layers")
    if config.get("pack_dtype", "int32") != "int32":
        raise refuse("pack_dtype", "'int32'")
    key = "format" if "format" in config else "checkpoint_format"
    version = config.get(key, "gptq")
    if version not in ("gptq", "gptq_v2"):
        raise refuse(key, "'gptq' or 'gptq_v2'")
    return GptqFormat(bits, group_size, version == "gptq", config.get("sym") is True)


def settle_zeros(layer: LayerTensors, form: GptqFormat, rows: int) -> GptqFormat:
    """The format with the convention of zero points that a layer's data show.

    All zero points of a symmetric layer are the middle code. So its stored zero points show
    whether they are one too small, even if config.json says otherwise.

    Args:
        layer: any of the checkpoint.
        form: what config.json says.
        rows: outputs of the layer.

    Raises:
        UserError: if config.json calls the layer symmetric and neither convention makes it so.
    """
    if not form.symmetric:
        return form
    stored = unpack_bits(layer.take_any("qzeros", (torch.int32,)).t(), form.bits, rows)
    for less_one in (form.zeros_less_one, not form.zeros_less_one):
        if (stored == middle_code(form.bits) - less_one).all():
            return replace(form, zeros_less_one=less_one)
    raise layer.bad(
        "qzeros",
        f"holds zero points {_listed(stored)}, but sym=true makes all of them "
        f"{middle_code(form.bits)}, stored as such or less one",
    )


def middle_code(bits: int) -> int:
    """The code of weight 0 in symmetric layers."""
    return 1 << (bits - 1)


def _listed(stored: Tensor) -> str:
    values = stored.unique().tolist()
    return ", ".join(map(str, values[:4])) + (", ..." if len(values) > 4 else "")


def read_gptq(layer: LayerTensors, form: GptqFormat, rows: int, columns: int) -> GroupedCodes:
    """Codes, scales and zero points of a layer, with its columns put in order of their groups.

    Args:
        layer: its tensors.
        form: what config.json says.
        rows: outputs of the layer in the model.
        columns: its inputs.

    Raises:
        UserError: if a tensor is missing, of another shape or dtype, or holds an invalid value.
    """
    size = columns if form.group_size == -1 else form.group_size
    groups = -(-columns // size)
    if columns % size:
        raise layer.bad("qweight", f"has {columns} columns, no multiple of group_size={size}")
    packed = layer.take("qweight", (-(-columns * form.bits // 32), rows), (torch.int32,))
    zeros = layer.take("qzeros", (groups, -(-rows * form.bits // 32)), (torch.int32,))
    scale = layer.usable_scales("scales", layer.take("scales", (groups, rows), FLOATS)).t()
    codes = unpack_bits(packed, form.bits, columns).t()
    zero = _zero_points(zeros, form, rows).t()
    if form.symmetric and not (zero == middle_code(form.bits)).all():
        raise layer.bad(
            "qzeros",
            f"holds zero points {_listed(zero)}, but those of layers read before, and sym=true, "
            f"make all of them {middle_code(form.bits)}",
        )
    permutation = column_order(layer, "g_idx", size, groups, columns)
    if permutation is not None:
        codes = codes[:, permutation]
    codes, zero = _mirror(codes, zero, scale, form.bits)
    return GroupedCodes(
        form.bits, codes.contiguous(), scale.abs().contiguous(), zero.contiguous(), permutation
    )


def unpack_bits(words: Tensor, bits: int, count: int) -> Tensor:
    """Codes of streams of bits along the first dimension.

    Args:
        words: ``[W, N]`` int32, low bits first.
        bits: of a code, at most 8.
        count: codes in a stream; ``count * bits`` of the ``32 * W`` bits are read.

    Returns:
        ``[count, N]`` uint8.
    """
    start = torch.arange(count) * bits
    word, shift = start // 32, (start % 32).unsqueeze(1)
    codes = torch.empty(count, words.shape[1], dtype=torch.uint8)
    chunk = max(1, _CHUNK // count)
    for first in range(0, words.shape[1], chunk):
        part = words[:, first : first + chunk].to(torch.int64) & 0xFFFFFFFF
        following = torch.cat((part[1:], torch.zeros_like(part[:1])))
        pairs = part | (following << 32)
        codes[:, first : first + chunk] = (pairs[word] >> shift) & (2**bits - 1)
    return codes


def _zero_points(packed: Tensor, form: GptqFormat, rows: int) -> Tensor:
    """``[groups, rows]`` uint8, the code of weight 0."""
    if form.zeros_less_one and form.bits != 3:
        # Subtract from whole words, as GPTQModel does: 0 - 1 borrows from the neighbouring zero
        # point.
        ones = sum(1 << bit for bit in range(0, 32, form.bits))
        packed = (packed.to(torch.int64) + ones).to(torch.int32)
    zero = unpack_bits(packed.t(), form.bits, rows).t()
    if form.zeros_less_one and form.bits == 3:
        zero = (zero + 1) & 7
    return zero


def column_order(
    layer: LayerTensors, name: str, size: int, groups: int, columns: int
) -> Tensor | None:
    """The model's columns in the order of their groups; None if they are in this order already.

    Args:
        layer: its tensors.
        name: of the tensor with the group of each column, which may be missing.
        size: columns of a group.
        groups: how many there are.
        columns: in all.

    Raises:
        UserError: if columns are not spread evenly over the groups.
    """
    if name not in layer.tensors:
        return None
    index = layer.take(name, (columns,), (torch.int32, torch.int64)).long()
    low, high = int(index.min()), int(index.max())
    if low < 0 or high >= groups:
        raise layer.bad(name, f"names group {low if low < 0 else high}, expected 0 to {groups - 1}")
    members = torch.bincount(index, minlength=groups)
    wrong = (members != size).nonzero()
    if len(wrong):
        group = int(wrong[0])
        raise layer.bad(
            name, f"puts {int(members[group])} columns into group {group}, expected {size}"
        )
    order = torch.argsort(index, stable=True)
    return None if torch.equal(order, torch.arange(columns)) else order


def _mirror(codes: Tensor, zero: Tensor, scale: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Codes and zero points for ``abs(scale)``: AutoRound writes negative scales.

    ``-s (c - z) = s ((top - c) - (top - z))`` with ``top = 2**bits - 1``.
    """
    negative = scale < 0
    if not negative.any():
        return codes, zero
    top = 2**bits - 1
    wide = negative.repeat_interleave(codes.shape[1] // scale.shape[1], dim=1)
    return torch.where(wide, top - codes, codes), torch.where(negative, top - zero, zero)
