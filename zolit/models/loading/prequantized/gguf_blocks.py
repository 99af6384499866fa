"""Keeps the linear layers of a GGUF file as the blocks in the file."""

from collections.abc import Callable
from pathlib import Path

import torch
from gguf import GGMLQuantizationType, quant_shape_from_byte_shape
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.models.gguf.blocks import block_weight
from zolit.models.gguf.read_blocks import READERS, read_blocks
from zolit.models.gguf.table import GgufTable, Placed, place_tensors, read_entry
from zolit.models.lazy_tensor import LazyTensor
from zolit.models.loading.kept_layers import KeptLayers, StoredLayer
from zolit.models.loading.prequantized.checkpoint import Contents, make_stand_in
from zolit.models.plan import Plan

_ROWS_AT_ONCE = 64

FLOATS = (GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16)


def blocks_refused(table: GgufTable, reason: str) -> UserError:
    """The error for a file whose blocks cannot be kept."""
    return UserError(
        f"quantizer Stored cannot keep the blocks of {str(table.file)!r}, because {reason}; use "
        "Int4 or Int8, which quantize its weights anew"
    )


def keep_blocks(
    table: GgufTable,
    skeleton: nn.Module,
    plan: Plan,
    tensors: dict[str, LazyTensor],
    dtype: torch.dtype,
) -> Contents:
    """Sort the tensors of a file into layers that keep their blocks and the rest.

    Args:
        table: of the file.
        skeleton: the model on the meta device.
        plan: of the skeleton; its quantized weights keep their blocks.
        tensors: of the file under the model's names, as floats.
        dtype: of the model's floats.

    Raises:
        UserError: if zolit does not hold the blocks of a linear layer, or no layer has blocks.
    """
    placed = place_tensors(table, skeleton)
    if isinstance(placed, str):
        raise blocks_refused(table, placed)
    layers: dict[str, StoredLayer] = {}
    rest = dict(tensors)
    for one in plan.weights:
        if not one.quantized or one.path not in placed or placed[one.path].entry.kind in FLOATS:
            continue
        found = placed[one.path]
        rows, columns = _shape(table, found)
        read = _reader(table.file, found, (rows, columns), one.transposed)
        layers[one.path] = StoredLayer(read, found.entry.kind.name)
        shape = (columns, rows) if one.transposed else (rows, columns)
        rest[one.path] = make_stand_in(found.entry.name, table.file, shape, dtype)
    if not layers:
        raise blocks_refused(table, "its linear layers are floats")
    return Contents(KeptLayers(layers), rest)


def _shape(table: GgufTable, found: Placed) -> tuple[int, int]:
    kind, name = found.entry.kind, found.entry.name
    if kind not in READERS:
        known = ", ".join(one.name for one in READERS)
        raise blocks_refused(
            table, f"tensor {name!r} is made of {kind.name} blocks, not one of {known}"
        )
    shape = quant_shape_from_byte_shape(found.entry.shape, kind)
    if len(shape) != 2:
        raise blocks_refused(table, f"tensor {name!r} has {len(shape)} dimensions, not 2")
    return shape[0], shape[1]


def _reader(
    file: Path, found: Placed, shape: tuple[int, int], transposed: bool
) -> Callable[[], StoredWeight]:
    entry = found.entry
    data = LazyTensor(entry.name, file, lambda: torch.from_numpy(read_entry(file, entry)))

    def read() -> StoredWeight:
        order = _row_order(found, shape, transposed)
        if order is None:
            raise UserError(
                f"model.source.gguf_file: the rows of tensor {entry.name!r} of {str(file)!r} are "
                "not those of the model in another order, so its blocks cannot be kept; use "
                "quantizer Int4 or Int8"
            )
        codes = read_blocks(data[:][order], entry.kind)
        for part in (codes.scale, codes.zero):
            if part is not None and not torch.isfinite(part).all():
                raise UserError(
                    f"model.source.gguf_file: tensor {entry.name!r} of {str(file)!r} has scales "
                    "that are NaN or infinite; the file is damaged, copy or download it again"
                )
        return block_weight(codes)

    return read


def _row_order(found: Placed, shape: tuple[int, int], transposed: bool) -> Tensor | None:
    """For each row of the model its row in the file, ``[rows]`` int64.

    None if the model's rows are not those of the file in another order. llama.cpp stores some rows
    in another order, such as Llama's query and key rows. transformers' converter, which undoes
    this, works on values: here it gets the numbers of the rows as values, and then those of the
    columns.
    """
    rows = torch.arange(shape[0], dtype=torch.float32).unsqueeze(1)
    moved = _converted(found, rows.expand(shape), transposed)
    if moved.shape != shape or not _equal(moved, moved[:, :1]):
        return None
    order = moved[:, 0].long()
    del moved  # of the two matrices one is there at a time
    columns = torch.arange(shape[1], dtype=torch.float32).unsqueeze(0)
    return order if _equal(_converted(found, columns.expand(shape), transposed), columns) else None


def _converted(found: Placed, values: Tensor, transposed: bool) -> Tensor:
    moved = found.convert(values.numpy())
    return moved.t() if transposed else moved


def _equal(matrix: Tensor, values: Tensor) -> bool:
    """Whether a matrix is a row or a column, repeated; compared in parts, so without a copy."""
    other = values.expand(matrix.shape)
    parts = zip(matrix.split(_ROWS_AT_ONCE), other.split(_ROWS_AT_ONCE), strict=True)
    return all(torch.equal(one, two) for one, two in parts)
