"""Folders with a random Llama in a GGUF file."""

import json
from pathlib import Path

import numpy as np
from block_bytes import random_blocks
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFWriter
from gguf.quants import quantize

from zolit.models.source import ModelSource

HIDDEN, WIDE, HEADS, GROUPS, LAYERS, VOCAB = 64, 96, 4, 2, 2, 100
FILE = "tiny.gguf"


def llama_shapes(
    hidden: int, wide: int, layers: int, tied: bool, vocabulary: int = VOCAB
) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a GGUF file of Llama's architecture."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, hidden),
        "output_norm.weight": (hidden,),
    }
    if not tied:
        shapes["output.weight"] = (vocabulary, hidden)
    narrow = hidden * GROUPS // HEADS
    for layer in range(layers):
        at = f"blk.{layer}"
        shapes |= {
            f"{at}.attn_norm.weight": (hidden,),
            f"{at}.ffn_norm.weight": (hidden,),
            f"{at}.attn_q.weight": (hidden, hidden),
            f"{at}.attn_k.weight": (narrow, hidden),
            f"{at}.attn_v.weight": (narrow, hidden),
            f"{at}.attn_output.weight": (hidden, hidden),
            f"{at}.ffn_gate.weight": (wide, hidden),
            f"{at}.ffn_up.weight": (wide, hidden),
            f"{at}.ffn_down.weight": (hidden, wide),
        }
    return shapes


def add(writer: GGUFWriter, name: str, values: np.ndarray, kind: Kind) -> None:
    """A tensor of these values; of random blocks of the kind where the package writes none."""
    if values.ndim == 1 or kind == Kind.F32:
        writer.add_tensor(name, values)
        return
    try:
        data = quantize(values, kind)
    except NotImplementedError:
        data = random_blocks(kind, *values.shape)
    writer.add_tensor(name, data, raw_dtype=kind)


def add_tokenizer(writer: GGUFWriter, folder: Path) -> int:
    """A byte-level BPE tokenizer, as llama.cpp names it; returns the size of its vocabulary."""
    model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    return len(tokens)


def write_llama(
    folder: Path,
    kind: Kind = Kind.Q4_1,
    tied: bool = False,
    drop: str | None = None,
    hidden: int = HIDDEN,
    wide: int = WIDE,
    layers: int = LAYERS,
    kinds: dict[str, Kind] | None = None,
    tokenizer: Path | None = None,
) -> ModelSource:
    """A random Llama whose matrices are of one block format.

    Args:
        folder: that is written to.
        kind: the format.
        tied: whether there is no output layer of its own.
        drop: name of a tensor that is left out.
        hidden: width of the model.
        wide: of its MLPs.
        layers: how many.
        kinds: formats of some tensors by their last name (``ffn_up``).
        tokenizer: folder with a ``tokenizer.json`` (byte-level BPE) that the file holds too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(folder / FILE, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(wide)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e4)
    vocabulary = VOCAB if tokenizer is None else add_tokenizer(writer, tokenizer)
    writer.add_vocab_size(vocabulary)
    generator = np.random.default_rng(0)
    for name, shape in llama_shapes(hidden, wide, layers, tied, vocabulary).items():
        values = generator.normal(size=shape).astype(np.float32)
        if name == drop:
            continue
        last = name.removesuffix(".weight").rpartition(".")[2]
        add(writer, name, values, (kinds or {}).get(last, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelSource(path=str(folder), gguf_file=FILE)
