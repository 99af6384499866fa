"""Names, types and shapes of the tensors in a checkpoint of pickles (``pytorch_model.bin``)."""

import json
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import Tensor

from zolit.errors import UserError, first_line
from zolit.models.lazy_tensor import LazyTensor
from zolit.models.loading.shards import find_file
from zolit.models.source import ModelSource

SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"

UNREADABLE = (
    OSError,
    ValueError,
    RuntimeError,
    EOFError,
    UnpicklingError,
    LookupError,
    TypeError,
    AttributeError,
)
"""Exceptions that readers of damaged pickles and indices raise."""


def find_pickled(source: ModelSource) -> dict[str, LazyTensor] | None:
    """The checkpoint's tensors, to look at their shapes; None if it has no such files.

    Raises:
        UserError: if a file is missing, cannot be read, or holds something else.
    """
    single = find_file(source, SINGLE)
    if single is not None:
        return _tensors(single)
    index = find_file(source, INDEX)
    if index is None:
        return None
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"model.source: {str(index)!r} is not the index of a checkpoint ({first_line(error)}); "
            "copy or download it again"
        ) from error
    tensors: dict[str, LazyTensor] = {}
    for name in sorted(map(str, names)):
        file = find_file(source, name)
        if file is None:
            raise UserError(
                f"model.source: {str(index)!r} names the shard {name!r}, which is not there; copy "
                "or download the whole checkpoint"
            )
        tensors.update(_tensors(file))
    return tensors


def _tensors(file: Path) -> dict[str, LazyTensor]:
    try:
        found = torch.load(file, map_location="meta", weights_only=True)
    except UNREADABLE as error:
        raise unreadable(str(file), error) from error
    if not isinstance(found, dict) or not all(isinstance(one, Tensor) for one in found.values()):
        raise UserError(
            f"model.source: {str(file)!r} does not hold tensors by name alone; give a checkpoint "
            "saved by save_pretrained"
        )
    return {name: _facts(name, file, tensor) for name, tensor in found.items()}


def _facts(name: str, file: Path, tensor: Tensor) -> LazyTensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    return LazyTensor(name, file, lambda: tensor, dtype, tuple(tensor.shape))


def unreadable(what: str, error: BaseException) -> UserError:
    """The error for weights that cannot be read."""
    reason = first_line(error)
    advice = "give a folder saved by save_pretrained or a hub name, and check the network"
    if isinstance(error, UnpicklingError):
        # torch's own advice is to run the code that the file may bring.
        reason = "it is damaged, or a pickle of more than tensors, which may run code"
        advice = "give safetensors, or copy the file again"
    return UserError(
        f"model.source.path: no weights could be read from {what!r} ({reason}); {advice}"
    )
