"""The tensors of a safetensors checkpoint, none of them read yet.

Files are read by position, not mapped: pages of a mapped file would count as memory of the process
for as long as the file stays open. Windows cannot read by position, so that files are mapped there.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from zolit.compat import cached_file
from zolit.errors import UserError, first_line
from zolit.models.lazy_tensor import LazyTensor
from zolit.models.source import ModelSource

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

VALUES = ("float64", "float32", "float16", "bfloat16")
"""Types of tensors that hold values, not codes."""

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
    "I32": "int32",
    "I64": "int64",
}
"""torch's names of dtypes by those of safetensors."""


def safetensors_files(source: ModelSource) -> list[Path] | None:
    """The checkpoint's files, downloaded if need be; None if it is not of safetensors.

    Raises:
        UserError: if the index is damaged or names a shard that is not there.
    """
    single = find_file(source, SINGLE)
    if single is not None:
        return [single]
    index = find_file(source, INDEX)
    if index is None:
        return None
    files = []
    for name in sorted(set(_weight_map(index).values())):
        file = find_file(source, name)
        if file is None:
            raise UserError(
                f"model.source: {str(index)!r} names the shard {name!r}, which is not there; copy "
                "or download the whole checkpoint"
            )
        files.append(file)
    return files


def find_safetensors(source: ModelSource) -> dict[str, LazyTensor] | None:
    """The checkpoint's tensors by name; None if it is not of safetensors.

    Raises:
        UserError: if a file is missing, cut short or damaged, or lacks a tensor of the index.
    """
    files = safetensors_files(source)
    if files is None:
        return None
    tensors: dict[str, LazyTensor] = {}
    for file in files:
        tensors.update(_tensors(file))
    index = files[0].parent / INDEX
    if files[0].name != SINGLE and index.is_file():
        for name, shard in _weight_map(index).items():
            if name not in tensors:
                raise UserError(
                    f"model.source: {str(index)!r} says that {shard!r} holds tensor {name!r}, "
                    "which it does not; the two are of different checkpoints"
                )
    return tensors


def _tensors(file: Path) -> dict[str, LazyTensor]:
    how = "pread" if hasattr(os, "pread") else "mmap"
    try:
        handle = safe_open(file, framework="pt", device="cpu", backend=how)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"model.source: {str(file)!r} is not a whole safetensors file ({first_line(error)}); "
            "copy or download it again"
        ) from error

    def reader(name: str) -> Callable[[], Tensor]:
        # A slice would copy the tensor a second time.
        return lambda: handle.get_tensor(name)

    def lazy(name: str) -> LazyTensor:
        facts = handle.get_slice(name)
        word = facts.get_dtype()
        return LazyTensor(
            name, file, reader(name), _DTYPES.get(word, word), tuple(facts.get_shape())
        )

    return {name: lazy(name) for name in handle.keys()}  # noqa: SIM118  (not a dictionary)


def _weight_map(index: Path) -> dict[str, str]:
    """Names of tensors and of the files that hold them, in the folder of the index."""
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = {str(tensor): str(file) for tensor, file in places.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"model.source: {str(index)!r} is not the index of a checkpoint ({first_line(error)}); "
            "its weight_map should name the file of each tensor"
        ) from error
    if not names:
        raise UserError(
            f"model.source: {str(index)!r} names no tensor; copy or download the whole checkpoint"
        )
    for tensor, file in names.items():
        if Path(file).name != file or not file.endswith(".safetensors"):
            raise UserError(
                f"model.source: {str(index)!r} places tensor {tensor!r} in {file!r}; expected a "
                "safetensors file beside the index"
            )
    return names


def find_file(source: ModelSource, name: str) -> Path | None:
    """A file of a checkpoint, downloaded if need be; None if there is none of that name."""
    path = source.resolved_path()
    if Path(path).is_dir():
        file = Path(path, name)
        return file if file.is_file() else None
    try:
        found = cached_file(path, name, revision=source.revision)
    except OSError:
        # The file is not on the hub, or there is no network: transformers' own loader says which.
        return None
    return None if found is None else Path(found)
