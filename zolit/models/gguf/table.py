"""The tensors of a GGUF file under the names of a transformers model, none of them read yet.

The `gguf` package dequantizes. transformers maps the names, and undoes the changes that llama.cpp's
converter makes to the weights of each architecture, such as the order of Llama's query and key
rows. The tensors themselves are read by position, see `zolit.models.loading.shards`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGMLQuantizationType, dequantize
from gguf.quants import quant_shape_to_byte_shape
from torch import Tensor, nn

from zolit.compat import (
    TENSOR_PROCESSORS,
    TensorProcessor,
    WeightConverter,
    WeightRenaming,
    get_gguf_conversion_mapping,
    get_gguf_hf_weights_map,
    is_gguf_arch_supported,
    rename_source_key,
)
from zolit.errors import UserError
from zolit.models.gguf.config import not_whole
from zolit.models.gguf.header import Place, read_header
from zolit.models.gguf.positions import POSITION_TENSORS
from zolit.models.lazy_tensor import LazyTensor
from zolit.models.plan import find_parameters

Values = np.ndarray[Any, np.dtype[Any]]

_DTYPES: dict[GGMLQuantizationType, type[np.generic]] = {
    GGMLQuantizationType.F64: np.float64,
    GGMLQuantizationType.F32: np.float32,
    GGMLQuantizationType.F16: np.float16,
    GGMLQuantizationType.I64: np.int64,
    GGMLQuantizationType.I32: np.int32,
    GGMLQuantizationType.I16: np.int16,
    GGMLQuantizationType.I8: np.int8,
}
"""Kinds that are not blocks of bytes."""


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies in a file.

    Attributes:
        name: in the file.
        kind: its block format.
        offset: bytes from the start of the file.
        shape: of its values, or of its bytes where it is made of blocks.
        dtype: of what ``shape`` counts.
    """

    name: str
    kind: GGMLQuantizationType
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class GgufTable:
    """The tensors of a file.

    Attributes:
        file: its path.
        architecture: the file's name for its kind of model.
        entries: its tensors.
    """

    file: Path
    architecture: str
    entries: tuple[Entry, ...]


def read_table(file: Path) -> GgufTable:
    """The table of a GGUF file.

    Raises:
        UserError: if the file is not GGUF, is cut short or its metadata is damaged.
    """
    try:
        header = read_header(file)
        architecture = str(header.fields["general.architecture"])
        size = file.stat().st_size
        entries = tuple(_entry(name, place, size) for name, place in header.tensors.items())
    except (OSError, ValueError, LookupError, TypeError, OverflowError, MemoryError) as error:
        raise not_whole(file, error) from error
    return GgufTable(file, architecture, entries)


def _entry(name: str, place: Place, size: int) -> Entry:
    """The entry of a tensor.

    Raises:
        ValueError: if the file of ``size`` bytes ends before the tensor does.
    """
    kind = GGMLQuantizationType(place.kind)
    dtype = _DTYPES.get(kind)
    # Blocks are counted in bytes.
    shape = place.shape if dtype else quant_shape_to_byte_shape(place.shape, kind)
    entry = Entry(name, kind, place.offset, tuple(shape), np.dtype(dtype or np.uint8))
    if place.offset + prod(entry.shape) * entry.dtype.itemsize > size:
        raise ValueError(f"it ends before tensor {name!r} does")
    return entry


@dataclass(frozen=True)
class Placed:
    """A tensor of a file with its place in a model.

    Attributes:
        entry: where it lies in the file.
        convert: turns its values, in the file's shape, into the model's tensor.
    """

    entry: Entry
    convert: Callable[[Values], Tensor]


def place_tensors(table: GgufTable, skeleton: nn.Module) -> dict[str, Placed] | str:
    """The tensors of a file by the model's names.

    Args:
        table: of the file.
        skeleton: the model that the file describes, on the meta device.

    Returns:
        The tensors, or why they cannot be read one by one.

    Raises:
        UserError: if the model has no place for one of them.
    """
    if is_gguf_arch_supported(table.architecture):
        return f"transformers has a loader of its own for GGUF files of {table.architecture}"
    check_gguf_places(table, skeleton)
    processor, names = _processor(table, skeleton)
    placed: dict[str, Placed] = {}
    for entry in table.entries:
        name = _place_of(entry.name, names)
        if name in placed:
            return f"several of its tensors make up {name}"
        if name is not None:
            placed[name] = Placed(entry, _converter(entry, processor, names))
    absent = [p.path for p in find_parameters(skeleton) if not placed.keys() & set(p.names)]
    if absent:
        return f"no single tensor of it is {absent[0]}"
    return placed


def check_gguf_places(table: GgufTable, skeleton: nn.Module) -> None:
    """Refuse a file with a tensor that the model has no place for.

    Args:
        table: of the file.
        skeleton: the model that the file describes, on the meta device.

    Raises:
        UserError: naming the first such tensor.
    """
    config: Any = skeleton.config
    there = skeleton.state_dict().keys()
    if is_gguf_arch_supported(table.architecture):
        steps = get_gguf_conversion_mapping(table.architecture, config)
        renamings = [one for one in steps if isinstance(one, WeightRenaming)]
        converters = [one for one in steps if isinstance(one, WeightConverter)]
        places = {
            one.name: rename_source_key(one.name, renamings, converters)[0] for one in table.entries
        }
    else:
        _, names = _processor(table, skeleton)
        places = {one.name: _place_of(one.name, names) for one in table.entries}
    # Tensors of positions have become numbers of the configuration.
    positions = POSITION_TENSORS if getattr(config, "rope_parameters", None) else ()
    for name, place in places.items():
        if place not in there and name not in positions:
            raise UserError(
                f"model.source.gguf_file: {str(table.file)!r} holds the tensor {name!r}, for which "
                f"transformers' model of {table.architecture} has no place, so it would be another "
                "model without it; give the model's folder of safetensors instead"
            )


def _processor(table: GgufTable, skeleton: nn.Module) -> tuple[Any, dict[str, str]]:
    """transformers' converter for tensors of the architecture, and its map of names."""
    config: Any = skeleton.config
    processor = TENSOR_PROCESSORS.get(table.architecture, TensorProcessor)(config=config.to_dict())
    names: dict[str, str] = get_gguf_hf_weights_map(_Whole(skeleton), processor)
    if any(_place_of(one.name, names) is None for one in table.entries):
        names = get_gguf_hf_weights_map(skeleton, processor)
    return processor, names


class _Whole:
    """A model without its modules, for transformers' map of names.

    The map of a model is filled up by those of its modules, each of which makes gguf's table of
    names anew: seven seconds for a model of thirty blocks that lacks none. What the model itself
    maps is never replaced.
    """

    def __init__(self, model: nn.Module) -> None:
        self.config: Any = model.config
        self.state_dict = model.state_dict

    def named_children(self) -> tuple[()]:
        return ()


def _place_of(name: str, names: dict[str, str]) -> str | None:
    """The parameter of a tensor; experts are named without their ending."""
    return names.get(name) or names.get(name.removesuffix(".weight"))


def gguf_tensors(table: GgufTable, skeleton: nn.Module) -> dict[str, LazyTensor] | str:
    """Lazy tensors under the model's names, float32 when read; see `place_tensors`."""
    placed = place_tensors(table, skeleton)
    if isinstance(placed, str):
        return placed
    return {name: _lazy(table.file, one) for name, one in placed.items()}


def read_entry(file: Path, entry: Entry) -> Values:
    """The values of a tensor, or its bytes where it is made of blocks: ``entry.shape``."""
    count = int(np.prod(entry.shape))
    data = np.fromfile(file, dtype=entry.dtype, count=count, offset=entry.offset)
    return data.reshape(entry.shape)


def _lazy(file: Path, one: Placed) -> LazyTensor:
    def read() -> Tensor:
        return one.convert(dequantize(read_entry(file, one.entry), one.entry.kind))

    return LazyTensor(one.entry.name, file, read)


def _converter(entry: Entry, processor: Any, names: dict[str, str]) -> Callable[[Values], Tensor]:
    def convert(values: Values) -> Tensor:
        # A processor puts some tensors here instead of returning them (GPT-2's output layer).
        aside: dict[str, Any] = {"tensors": {}}
        result = processor.process(
            weights=values, name=entry.name, tensor_key_mapping=names, parsed_parameters=aside
        )
        if result.name is None:
            (tensor,) = aside["tensors"].values()
            return tensor.float()
        return torch.from_numpy(np.ascontiguousarray(result.weights))

    return convert
