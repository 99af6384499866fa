"""Writes the fields of a GGUF file that describe the model."""

from typing import Any

from gguf import MODEL_ARCH, GGUFReader, GGUFValueType, GGUFWriter, Keys

from zolit.caller import export_format
from zolit.errors import UserError
from zolit.models.gguf.write_positions import write_positions

_WRITTEN = (
    Keys.General.ARCHITECTURE,
    Keys.General.FILE_TYPE,
    Keys.General.QUANTIZATION_VERSION,
    Keys.General.ALIGNMENT,
)


def copy_fields(writer: GGUFWriter, reader: GGUFReader) -> None:
    """Copy all fields of a file about its model and tokenizer, but not the format of its
    weights."""
    for name, field in reader.fields.items():
        if name.startswith(("GGUF.", "split.")) or name in _WRITTEN:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == GGUFValueType.ARRAY else None
        value = field.contents()
        if value != []:  # the writer cannot tell the type of an empty list
            writer.add_key_value(name, value, kind, inner)


def write_fields(writer: GGUFWriter, config: Any, architecture: MODEL_ARCH) -> None:
    """Write the sizes of a model from its transformers configuration.

    Args:
        writer: of the file.
        config: transformers configuration.
        architecture: as which llama.cpp reads the model.

    Raises:
        UserError: if the format has no field for something that the model computes.
    """
    if config.hidden_act != "silu":
        raise UserError(
            f"{export_format('gguf')}: the model's activation is {config.hidden_act!r}, llama.cpp "
            f"computes 'silu' for {config.model_type}; use {export_format('safetensors')}"
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
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    write_positions(writer, config, architecture)
