"""A fine-tuned model as a GGUF file, which llama.cpp loads.

Codes are written unchanged if a block format can hold them. Names, row orders and fields follow
llama.cpp's convert_hf_to_gguf.py; the `gguf` package writes the bytes.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_VERSION, MODEL_ARCH_NAMES, GGUFReader, GGUFWriter, LlamaFileType
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from zolit.caller import by_caller
from zolit.errors import UserError
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.models.gguf.write_blocks import BLOCK, Array, exact_blocks, nearest_blocks
from zolit.models.gguf.write_metadata import copy_fields, write_fields
from zolit.models.gguf.write_names import Names
from zolit.models.gguf.write_positions import rope_factors, rope_type
from zolit.models.gguf.write_tokenizer import write_tokenizer
from zolit.tensors.weight import PerturbedWeight

FILE = "model.gguf"

_BLOCKS = (Kind.Q4_0, Kind.Q4_1, Kind.Q8_0)
_FLOATS = {torch.bfloat16: Kind.BF16, torch.float16: Kind.F16, torch.float32: Kind.F32}
_FILE_TYPES = {
    Kind.Q8_0: LlamaFileType.MOSTLY_Q8_0,
    Kind.Q4_0: LlamaFileType.MOSTLY_Q4_0,
    Kind.Q4_1: LlamaFileType.MOSTLY_Q4_1,
    Kind.F16: LlamaFileType.MOSTLY_F16,
    Kind.BF16: LlamaFileType.MOSTLY_BF16,
    Kind.F32: LlamaFileType.ALL_F32,
}


@dataclass(frozen=True)
class Written:
    """A tensor as it stands in the file.

    Attributes:
        kind: of its blocks.
        data: bytes ``[..., bytes]`` uint8, or floats.
        same: whether it holds the numbers of the run: codes, or floats to their last bit.
    """

    kind: Kind
    data: Array
    same: bool


def save_gguf(
    model: Any,
    tokenizer: Any,
    gguf_type: str | None,
    folder: Path,
    original: Path | None = None,
) -> list[str]:
    """Write ``model.gguf``.

    Args:
        model: prepared; not changed.
        tokenizer: of transformers.
        gguf_type: of all matrices; None: each keeps its codes, or its floats.
        folder: that exists, with what ``tokenizer.save_pretrained`` wrote.
        original: the GGUF file that the model was loaded from, whose fields are taken over; None
            for a model that was loaded from another kind of file.

    Returns:
        Sentences about weights that are not written as the run had them, and about readers of the
        file.

    Raises:
        UserError: if llama.cpp has no place for the model or its tokenizer.
    """
    config = model.config.get_text_config()
    names = Names(config)
    # Tensors are kept in a temporary file, not in memory, until the table is written.
    writer = GGUFWriter(
        folder / FILE, MODEL_ARCH_NAMES[names.family.architecture], use_temp_file=True
    )
    kept: dict[str, Written] = {}
    if original is not None:
        reader = GGUFReader(original)
        copy_fields(writer, reader)
        kept = {t.name: Written(t.tensor_type, t.data, True) for t in reader.tensors}
    else:
        write_fields(writer, config, names.family.architecture)
        write_tokenizer(writer, folder, tokenizer, config.vocab_size)
        factors = rope_factors(model, config)
        if factors is not None:
            kept["rope_freqs.weight"] = Written(Kind.F32, factors.numpy(), True)
    wanted = None if gguf_type is None else Kind[gguf_type]
    counts: Counter[Kind] = Counter()
    rounded: Counter[Kind] = Counter()
    merged: Counter[Kind] = Counter()
    for path, parameter in model.named_parameters():  # ties come once
        name = names[path]
        made = tensor_of(parameter, wanted, names.rows(name, parameter.shape[0]))
        kept.pop(name, None)
        writer.add_tensor(name, made.data, raw_dtype=made.kind)
        counts[made.kind] += parameter.numel()
        if isinstance(parameter, PerturbedWeight) and isinstance(parameter.store, SparseOverlay):
            merged[made.kind] += 1
        else:
            rounded[made.kind] += not made.same
    for name, one in kept.items():  # tensors of the file that are no parameters of the model
        writer.add_tensor(name, one.data, raw_dtype=one.kind)
    writer.add_file_type(_FILE_TYPES[counts.most_common(1)[0][0]])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    try:
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    finally:
        writer.close()
    notes = [
        f"{count} weights have floats beside their codes, which the run kept as float32; both are "
        f"written as one matrix, {_merged_as(kind)}"
        for kind, count in merged.items()
    ]
    notes += [
        f"{count} weights are rounded to {kind.name}, which does not hold them as the run had them"
        for kind, count in rounded.items()
        if count
    ]
    return notes + [
        f"transformers' reader of GGUF files leaves out the model's {what}, in silence; load the "
        "file with llama.cpp or zolit"
        for what in _dropped(config)
    ]


def _merged_as(kind: Kind) -> str:
    """What becomes of the floats of an overlay in a type of the file, in words."""
    if kind in _BLOCKS:
        return f"quantized anew to {kind.name}, whose steps hide most of what was tuned"
    return f"rounded to {kind.name}" if kind != Kind.F32 else "in F32"


def _dropped(config: Any) -> list[str]:
    """Parts of a model that transformers' reader of GGUF files ignores, in words."""
    biases = getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)
    scaled = rope_type(config) != "default"
    return ["biases"] * bool(biases) + [f"{rope_type(config)} scaling of positions"] * scaled


def tensor_of(parameter: Tensor, wanted: Kind | None, order: Tensor | None) -> Written:
    """A parameter in the form that it has in the file.

    Args:
        parameter: of a prepared model.
        wanted: block format of matrices; None: the one that holds the codes or floats unchanged.
        order: the row of the model at each row of the file; None for the same order.
    """
    quantized = isinstance(parameter, PerturbedWeight) and parameter.store.quantized
    if isinstance(parameter, PerturbedWeight) and quantized:
        for kind in _BLOCKS if wanted is None else (wanted,):
            blocks = exact_blocks(parameter.store, kind) if kind in _BLOCKS else None
            if blocks is not None:
                return Written(kind, blocks if order is None else blocks[order.numpy()], True)
    value = parameter.dense() if isinstance(parameter, PerturbedWeight) else parameter.detach()
    value = value.cpu() if order is None else value.cpu()[order]
    if value.dim() < 2:
        return Written(Kind.F32, value.float().numpy(), True)
    kind = _FLOATS[value.dtype] if wanted is None else wanted
    if kind in _BLOCKS and not quantized:
        kind = Kind.Q8_0  # embeddings and output layer, which the run kept as floats
    if kind in _BLOCKS and value.shape[-1] % BLOCK:
        kind = Kind.F16
    if kind in _BLOCKS:
        return Written(kind, nearest_blocks(value, kind), False)
    if kind == Kind.BF16:
        return Written(kind, value.view(torch.int16).numpy().view(np.uint8), not quantized)
    return Written(kind, _float_array(value, kind), kind == _FLOATS[value.dtype] and not quantized)


def _float_array(value: Tensor, kind: Kind) -> Array:
    dtype = torch.float16 if kind == Kind.F16 else torch.float32
    found: Array = value.to(dtype).numpy()
    if not np.isfinite(found).all():
        raise UserError(
            f"{by_caller('--gguf-type', 'gguf_type')}: F16 cannot hold all weights of the model, "
            f"the largest is {float(value.abs().max()):.3g}; leave it out"
        )
    return found
