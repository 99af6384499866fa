"""Read AQLM layers: sums of codebook vectors with a scale for each output (Egiazarian et al. 2024,
arXiv 2401.06118).

A layer of N rows and K columns, M codebooks of 2**B vectors of g columns, has

- ``codes`` ``[N, K / g, M]`` int8 or int16: indices into the codebooks, modulo 2**B;
- ``codebooks`` ``[M, 2**B, 1, g]`` float16;
- ``scales`` ``[N, 1, 1, 1]`` float16.

``weight[n, j * g : (j + 1) * g] = scales[n] * sum_m codebooks[m, codes[n, j, m]]``.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from zolit.errors import UserError
from zolit.models.loading.prequantized.layer import FLOATS, LayerTensors


@dataclass(frozen=True)
class AqlmFormat:
    """What config.json says of an AQLM checkpoint.

    Attributes:
        codebooks: vectors that are summed.
        bits: of an index, at most 16.
        group: columns of a vector: a divisor of 32.
        marks: names of tensors by which a layer of this format is recognized.
        parts: names of all tensors of a layer.
    """

    marks: ClassVar[tuple[str, ...]] = ("codebooks",)
    parts: ClassVar[frozenset[str]] = frozenset({"codes", "codebooks", "scales", "bias"})

    codebooks: int
    bits: int
    group: int

    def __str__(self) -> str:
        return (
            f"quant_method=aqlm with num_codebooks={self.codebooks}, "
            f"nbits_per_codebook={self.bits} and in_group_size={self.group}"
        )


@dataclass(frozen=True)
class CodebookCodes:
    """``weight = scale * sum of vectors``.

    Attributes:
        codes: ``[rows, columns / group, codebooks]`` int8 or int16 as stored; its bits read as an
            unsigned number, modulo 2**bits, are the index.
        codebooks: ``[codebooks, 2**bits, group]`` float16, bfloat16 or float32 as stored.
        scale: ``[rows]`` float32.
    """

    codes: Tensor
    codebooks: Tensor
    scale: Tensor


def aqlm_format(config: dict[str, Any], file: str) -> AqlmFormat:
    """The format that a ``quantization_config`` declares.

    Args:
        config: with ``quant_method: aqlm``.
        file: that holds it, for messages.

    Raises:
        UserError: if zolit does not read this variant.
    """

    def number(key: str, fits: Any, expected: str) -> int:
        value = config.get(key)
        if not isinstance(value, int) or not fits(value):
            raise UserError(
                f"model.source: quantization_config of {file!r} has {key}={value!r}, expected "
                f"{expected}; give an AQLM checkpoint such as 1x16 or 2x8 in groups of 8 columns"
            )
        return value

    number("out_group_size", lambda value: value == 1, "1")
    return AqlmFormat(
        number("num_codebooks", lambda value: value >= 1, "1 or more"),
        number("nbits_per_codebook", lambda value: 1 <= value <= 16, "1 to 16"),
        number("in_group_size", lambda value: value in (4, 8, 16, 32), "4, 8, 16 or 32"),
    )


def read_aqlm(layer: LayerTensors, form: AqlmFormat, rows: int, columns: int) -> CodebookCodes:
    """Indices, codebooks and scales of a layer.

    Args:
        layer: its tensors.
        form: what config.json says.
        rows: outputs of the layer in the model.
        columns: its inputs.

    Raises:
        UserError: if a tensor is missing, of another shape or dtype, or holds an invalid value.
    """
    if columns % form.group:
        raise layer.bad("codes", f"has {columns} columns, no multiple of {form.group}")
    integer = torch.int8 if form.bits <= 8 else torch.int16
    codes = layer.take("codes", (rows, columns // form.group, form.codebooks), (integer,))
    shape = (form.codebooks, 2**form.bits, 1, form.group)
    codebooks = layer.take("codebooks", shape, FLOATS).squeeze(2)
    if not torch.isfinite(codebooks).all():
        raise layer.bad("codebooks", "holds NaN or infinite numbers")
    scale = layer.usable_scales("scales", layer.take("scales", (rows, 1, 1, 1), FLOATS)).flatten()
    return CodebookCodes(codes.contiguous(), codebooks.contiguous(), scale)
