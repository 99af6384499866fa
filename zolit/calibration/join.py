"""Joins safetensors files, with one tensor in memory at a time."""

import json
import math
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from safetensors import safe_open

_BYTES = {"BF16": 2, "F32": 4, "I32": 4, "I64": 8}
"""Bytes of a number, by the name that safetensors gives its type."""


def join_files(parts: Iterable[Path], to: Path, metadata: Mapping[str, str]) -> None:
    """Write the tensors of several safetensors files to one file, in their order.

    The format is described in https://huggingface.co/docs/safetensors: eight bytes hold the length
    of a header, the header is JSON, and the tensors' bytes lie at the offsets that it names.

    Args:
        parts: the files, which have no tensor name in common. Their metadata is dropped.
        to: the new file; an existing one is replaced.
        metadata: of the new file.

    Raises:
        OSError: if it cannot be written.
    """
    files = list(parts)
    header: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for file in files:
        with safe_open(file, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no dictionary)
                view = opened.get_slice(name)
                begin, shape, kind = end, view.get_shape(), view.get_dtype()
                end += _BYTES[kind] * math.prod(shape)
                header[name] = {"dtype": kind, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors' bytes are aligned
    with to.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        for file in files:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118
                    flat = opened.get_tensor(name).flatten().view(torch.uint8)
                    stream.write(flat.numpy().data)
