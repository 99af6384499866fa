"""Random transformers models as GGUF files, by hand: names, layouts, fields as llama.cpp has them.

Nothing of zolit's export is used, so that what zolit reads is compared with another writer's work.
The layouts follow llama.cpp's converter: rows of Llama's queries and keys by neighbouring pairs,
norms of Gemma and Nemotron as 1 + w, GPT-2's matrices transposed, BLOOM's joined projection in
three parts, experts stacked by projection.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gguf import MODEL_ARCH_NAMES, GGUFWriter, get_tensor_name_map
from torch import Tensor, nn

from zolit.models.source import ModelSource

FILE = "tiny.gguf"
Fields = dict[str, Any]


def write_model(
    folder: Path, model: nn.Module, architecture: str, fields: Fields, extra: dict[str, Tensor]
) -> ModelSource:
    """A model as a GGUF file of floats.

    Args:
        folder: that is made.
        model: of transformers.
        architecture: llama.cpp's name.
        fields: under the architecture's name.
        extra: further tensors by their names in the file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(folder / FILE, architecture)
    config: Any = model.config
    for name, value in {"vocab_size": config.vocab_size, **fields}.items():
        write_field(writer, f"{architecture}.{name}", value)
    writer.add_tokenizer_model("none")
    for name, tensor in {**tensors_of(model, architecture), **extra}.items():
        writer.add_tensor(name, tensor.float().contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return ModelSource(path=str(folder), gguf_file=FILE)


def write_field(writer: GGUFWriter, name: str, value: Any) -> None:
    """A field in the type that llama.cpp reads it as."""
    if isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    elif isinstance(value, float):
        writer.add_float32(name, value)
    elif isinstance(value, str):
        writer.add_string(name, value)
    else:
        writer.add_array(name, value)


def tensors_of(model: nn.Module, architecture: str) -> dict[str, Tensor]:
    """The parameters of a model by names, and in the layout, of llama.cpp."""
    config: Any = model.config
    (arch,) = (key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    found: dict[str, Tensor] = {}
    for path, parameter in model.named_parameters():
        value, (base, _, suffix) = parameter.detach(), path.rpartition(".")
        if suffix not in ("weight", "bias"):
            base, suffix = path, ""
        if base.endswith("experts.gate_up_proj"):
            layer = base.split(".")[2]
            gate, up = value.chunk(2, dim=1)
            found |= {
                f"blk.{layer}.ffn_gate_exps.weight": gate,
                f"blk.{layer}.ffn_up_exps.weight": up,
            }
            continue
        name = names.get_name(base) or names.get_name(base.removeprefix("transformer."))
        assert name is not None, path
        if base.endswith("experts.down_proj"):
            suffix = "weight"
        whole = f"{name}.{suffix}" if suffix else name
        found[whole] = LAYOUTS.get(architecture, _same)(whole, value, config)
    return found


def _same(name: str, value: Tensor, config: Any) -> Tensor:
    return value


def _llama(name: str, value: Tensor, config: Any) -> Tensor:
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if count is None:
        return value
    return value.unflatten(0, (count, 2, -1)).transpose(1, 2).reshape(value.shape)


def _norms(name: str, value: Tensor, config: Any) -> Tensor:
    return value + 1 if name.endswith("norm.weight") else value


def _one_gate(name: str, value: Tensor, config: Any) -> Tensor:
    return value.squeeze(0) if name.endswith("ffn_gate_inp_shexp.weight") else value


def _gpt2(name: str, value: Tensor, config: Any) -> Tensor:
    within = name.startswith("blk.") and value.dim() == 2
    return value.t() if within else value


def _bloom(name: str, value: Tensor, config: Any) -> Tensor:
    if "attn_qkv" not in name:
        return value
    return value.unflatten(0, (config.n_head, 3, -1)).transpose(0, 1).reshape(value.shape)


def _convolutions(name: str, value: Tensor, config: Any) -> Tensor:
    if name.endswith("ssm_a"):
        return -value.exp()
    return value.squeeze(1) if value.dim() == 3 else value


LAYOUTS: dict[str, Callable[[str, Tensor, Any], Tensor]] = {
    "llama": _llama,
    "gemma2": _norms,
    "gemma3": _norms,
    "nemotron": _norms,
    "gpt2": _gpt2,
    "bloom": _bloom,
    "mamba": _convolutions,
    "qwen2moe": _one_gate,
    "lfm2": _convolutions,
}
