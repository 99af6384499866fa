"""Read AWQ layers of the gemm layout: 4-bit codes packed along outputs, in a fixed odd order.

A layer of N rows (outputs) and K columns (inputs) in G groups has

- ``qweight`` ``[K, N / 8]`` int32: eight outputs a word, the i-th of them in nibble `NIBBLES[i]`;
- ``qzeros`` ``[G, N / 8]`` int32: zero points of a group, packed alike;
- ``scales`` ``[G, N]`` float16.

``weight[n, k] = scales[g, n] * (code[n, k] - zero[g, n])`` where ``g = k // group_size``.
"""

from dataclasses import dataclass
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

NIBBLES = (0, 4, 1, 5, 2, 6, 3, 7)
"""Nibble, the lowest first, of each of the eight outputs of a word."""


@dataclass(frozen=True)
class AwqFormat:
    """What config.json says of an AWQ checkpoint.

    Attributes:
        group_size: columns that share a scale, -1 for all of them.
        marks: names of tensors by which a layer of this format is recognized.
        parts: names of all tensors of a layer.
    """

    marks: ClassVar[tuple[str, ...]] = ("qweight",)
    parts: ClassVar[frozenset[str]] = frozenset({"qweight", "qzeros", "scales", "bias"})

    group_size: int

    def __str__(self) -> str:
        return f"quant_method=awq with bits=4 and group_size={self.group_size}"


def awq_format(config: dict[str, Any], file: str) -> AwqFormat:
    """The format that a ``quantization_config`` declares.

    Args:
        config: with ``quant_method: awq``.
        file: that holds it, for messages.

    Raises:
        UserError: if zolit does not read this variant.
    """

    def refuse(key: str, expected: str) -> UserError:
        advice = "give an AWQ checkpoint of that kind, or a float model with quantizer Int4"
        return declared_otherwise(config, key, file, expected, advice)

    for key in ("bits", "w_bit"):
        if config.get(key, 4) != 4:
            raise refuse(key, "4")
    key = "q_group_size" if "q_group_size" in config else "group_size"
    size = config.get(key, 128)
    if not isinstance(size, int) or (size < 1 and size != -1):
        raise refuse(key, "a positive number or -1")
    key = "format" if "format" in config else "version"
    if str(config.get(key) or "gemm").lower() != "gemm":
        raise refuse(key, "'gemm'")
    if config.get("zero_point", True) is not True:
        raise refuse("zero_point", "true")
    return AwqFormat(size)


def read_awq(layer: LayerTensors, form: AwqFormat, rows: int, columns: int) -> GroupedCodes:
    """Codes, scales and zero points of a layer.

    Args:
        layer: its tensors.
        form: what config.json says.
        rows: outputs of the layer in the model.
        columns: its inputs.

    Raises:
        UserError: if a tensor is missing, of another shape or dtype, or holds an invalid value.
    """
    size = columns if form.group_size == -1 else form.group_size
    if columns % size or rows % len(NIBBLES):
        raise layer.bad(
            "qweight", f"is of {rows} rows and {columns} columns, which {form} cannot hold"
        )
    groups = columns // size
    packed = layer.take("qweight", (columns, rows // len(NIBBLES)), (torch.int32,))
    zeros = layer.take("qzeros", (groups, rows // len(NIBBLES)), (torch.int32,))
    scale = layer.usable_scales("scales", layer.take("scales", (groups, rows), FLOATS))
    return GroupedCodes(
        4,
        unpack_nibbles(packed).t().contiguous(),
        scale.t().contiguous(),
        unpack_nibbles(zeros).t().contiguous(),
        None,
    )


def unpack_nibbles(words: Tensor) -> Tensor:
    """``[K, N / 8]`` int32 as ``[K, N]`` uint8 codes of outputs in order."""
    shifts = 4 * torch.tensor(NIBBLES, dtype=torch.int32)
    codes = torch.empty(*words.shape, len(NIBBLES), dtype=torch.uint8)
    for place, shift in enumerate(shifts.tolist()):
        codes[..., place] = (words >> shift) & 0xF
    return codes.flatten(1)
