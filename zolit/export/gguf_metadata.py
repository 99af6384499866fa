"""The fields of a GGUF file that say what the model is."""

from typing import Any

from gguf import GGUFReader, GGUFValueType, GGUFWriter, Keys
from torch import Tensor, nn

from zolit.errors import UserError

_ROPE = ("default", "linear", "llama3")
_WRITTEN = (
    Keys.General.ARCHITECTURE,
    Keys.General.FILE_TYPE,
    Keys.General.QUANTIZATION_VERSION,
    Keys.General.ALIGNMENT,
)


def copy_fields(writer: GGUFWriter, reader: GGUFReader) -> None:
    """Everything that a file says of its model and tokenizer, but for the form of its weights."""
    for name, field in reader.fields.items():
        if name.startswith(("GGUF.", "split.")) or name in _WRITTEN:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        value = field.contents()
        if value != []:  # the writer cannot tell the type of an empty list
            writer.add_key_value(name, value, kind, inner)


def write_fields(writer: GGUFWriter, config: Any) -> None:
    """Sizes of a model from its transformers configuration.

    Raises:
        UserError: if its positions are encoded in a way that is not written.
    """
    kind = rope_type(config)
    if kind not in _ROPE:
        raise UserError(
            f"--format gguf: the model scales its positions by {kind!r}, expected one of "
            f"{', '.join(_ROPE)}; use --format safetensors and convert the folder with llama.cpp's "
            "own script"
        )
    heads = config.num_attention_heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(head)
    writer.add_rope_freq_base(float(config.rope_parameters["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)


def rope_type(config: Any) -> str:
    """How a model's positions are scaled, in transformers' words."""
    return str((getattr(config, "rope_parameters", None) or {}).get("rope_type", "default"))


def rope_factors(model: nn.Module, config: Any) -> Tensor | None:
    """What each frequency of the rotation is divided by, ``[head / 2]`` float32; None: by 1."""
    if rope_type(config) == "default":
        return None
    rotary: Any = model.get_submodule("model.rotary_emb")
    actual = rotary.inv_freq.float()
    base = float(config.rope_parameters["rope_theta"])
    half = actual.shape[0]
    plain = base ** -(actual.new_tensor(range(half)) / half)
    return plain / actual
