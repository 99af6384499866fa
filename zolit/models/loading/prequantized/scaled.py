"""Read layers of one-byte codes, with a scale for each block of rows and columns.

A layer of N rows and K columns has

- ``weight`` ``[N, K]`` float8_e4m3fn or int8 codes;
- ``weight_scale_inv`` or ``weight_scale``: of blocks of m rows and n columns
  ``[ceil(N / m), ceil(K / n)]``; one for each row ``[N]`` or ``[N, 1]``; or a single one. Despite
  the first name, weights are codes times scales in both. Exponents of two may be stored as bytes
  (e8m0): ``2 ** (byte - 127)``;
- ``weight_zero_point``, of int8 codes that have one, of the scale's shape.

Each row of a block gets its own copy of the scale, so that rows are read and moved independently.
"""

from collections.abc import Iterator
from math import gcd

import torch
from torch import Tensor

from zolit.coordinates.scales import SCALE_FLOOR
from zolit.models.loading.prequantized.layer import FLOATS, LayerTensors, PlainCodes
from zolit.noise import WORD

Block = tuple[int, int]
"""Rows and columns that share a scale; 0 for all of them."""

TENSOR, CHANNEL = (0, 0), (1, 0)

CODES = (torch.float8_e4m3fn, torch.int8)
_EXPONENTS = (torch.uint8, torch.float8_e8m0fnu)


def read_scaled(
    layer: LayerTensors,
    codes: tuple[torch.dtype, ...],
    blocks: tuple[Block, ...],
    rows: int,
    columns: int,
) -> PlainCodes:
    """Codes, scales and zeros of a layer.

    Args:
        layer: its tensors.
        codes: dtypes that config.json allows.
        blocks: sizes of blocks that it allows.
        rows: outputs of the layer in the model.
        columns: its inputs.

    Raises:
        UserError: if a tensor is missing, of another shape or dtype, or holds an invalid value.
    """
    weight = layer.take_codes("weight", (rows, columns), codes)
    name = next((one for one in ("weight_scale_inv", "weight_scale") if one in layer.tensors), "")
    found = layer.take_one_of(
        name or "weight_scale", _shapes(blocks, rows, columns), (*FLOATS, *_EXPONENTS)
    )
    block = fitting(blocks, tuple(found.shape), rows, columns)
    scale = by_row(layer, name, as_values(found), block, rows, columns)
    zero = None
    if "weight_zero_point" in layer.tensors:
        points = layer.take("weight_zero_point", tuple(found.shape), (torch.int8, *FLOATS))
        spread = by_row(layer, "weight_zero_point", points.float(), block, rows, columns)
        zero = -(scale * spread) if spread.any() else None
    weight, scale = without_zero_scales(weight, layer.finite_scales(name, scale), zero)
    return PlainCodes(weight, False, scale, zero)


def as_values(scale: Tensor) -> Tensor:
    """Scales as float32, exponents of two expanded."""
    if scale.dtype == torch.uint8:
        return torch.exp2(scale.float() - 127.0).masked_fill(scale == 255, torch.nan)
    return scale.float()


def grid(block: Block, rows: int, columns: int) -> tuple[int, int]:
    """The number of blocks of a matrix, along rows and columns; the last may be smaller."""
    return -(-rows // (block[0] or rows)), -(-columns // (block[1] or columns))


def _shapes(blocks: tuple[Block, ...], rows: int, columns: int) -> list[tuple[int, ...]]:
    return [shape for block in blocks for shape in _forms(grid(block, rows, columns))]


def _forms(cells: tuple[int, int]) -> Iterator[tuple[int, ...]]:
    yield cells
    if cells[1] == 1:
        yield cells[:1]
        if cells[0] == 1:
            yield ()


def fitting(blocks: tuple[Block, ...], shape: tuple[int, ...], rows: int, columns: int) -> Block:
    """The block whose scales have this shape."""
    return next(block for block in blocks if shape in list(_forms(grid(block, rows, columns))))


def by_row(
    layer: LayerTensors, name: str, scale: Tensor, block: Block, rows: int, columns: int
) -> Tensor:
    """A scale for each row and group of columns, ``[rows, groups]``, groups of equal length.

    Raises:
        UserError: if groups are not a multiple of 32 columns.
    """
    height, width = block[0] or rows, block[1] or columns
    cells = scale.reshape(grid(block, rows, columns))
    spread = cells[torch.arange(rows) // height]
    if spread.shape[1] == 1:
        return spread.contiguous()
    size = gcd(width, columns)
    if size % WORD:
        raise layer.bad(
            name, f"has blocks of {width} columns of {columns}, but zolit holds multiples of {WORD}"
        )
    return spread[:, torch.arange(columns // size) * size // width].contiguous()


def without_zero_scales(codes: Tensor, scale: Tensor, zero: Tensor | None) -> tuple[Tensor, Tensor]:
    """Replace scales of 0 by the smallest scale, as a step in weights divides by the scale.

    All weights under a scale of 0 are 0, so their codes become 0.
    """
    empty = scale == 0
    if not empty.any():
        return codes, scale
    wide = empty.repeat_interleave(codes.shape[1] // scale.shape[1], dim=1)
    # As bytes, since float8 lacks the operation; code 0 is the byte 0 in both dtypes.
    kept = codes.view(torch.uint8).masked_fill(wide, 0).view(codes.dtype)
    return kept, scale.masked_fill(empty, SCALE_FLOOR)
