"""The transformers configuration of a GGUF file; metadata that it cannot express are refused."""

from pathlib import Path
from typing import Any

from zolit.errors import UserError, first_line
from zolit.models.gguf.families import FAMILIES
from zolit.models.gguf.header import Header, read_header
from zolit.models.gguf.stated import Stated

_TOKENS = {"bos": "bos", "eos": "eos", "padding": "pad"}
"""Names of special tokens in GGUF files, and transformers' names."""


def gguf_header(file: Path) -> Header:
    """`read_header`, with a sentence for the user if the file is damaged.

    Raises:
        UserError: if the file is not GGUF, is cut short or its metadata are damaged.
    """
    try:
        return read_header(file)
    except (OSError, ValueError, MemoryError) as error:
        raise not_whole(file, error) from error


def not_whole(file: Path, error: Exception) -> UserError:
    """The error of a file that is cut short or damaged."""
    return UserError(
        f"model.source.gguf_file: {str(file)!r} is not a whole GGUF file ({first_line(error)}); "
        "copy or download it again"
    )


def gguf_config(file: Path) -> Any:
    """The configuration that a file describes.

    Every field of the file's architecture is either used or has a value that changes nothing.
    Tensors that hold factors of positions become numbers of the configuration.

    Args:
        file: its path.

    Raises:
        UserError: if the file is damaged, zolit does not read its architecture, or a field has a
            meaning that the model would ignore.
        StrictDataclassError: if transformers finds the configuration not valid.
    """
    from transformers import AutoConfig

    stated = Stated(gguf_header(file))
    _check_kind(stated)
    kind, read = FAMILIES[stated.architecture]
    _check_layers(stated)
    options = read(stated)
    stated.check_rest()
    tied = "output.weight" not in stated.header.tensors
    vocabulary = stated.rows("token_embd.weight")
    tokens = {f"{name}_token_id": one for name, one in special_tokens(stated.header).items()}
    return AutoConfig.for_model(
        kind, **options, **tokens, vocab_size=vocabulary, tie_word_embeddings=tied
    )


def special_tokens(header: Header) -> dict[str, int | None]:
    """Numbers of special tokens by transformers' names, None where the file names none."""
    return {
        name: header.fields.get(f"tokenizer.ggml.{there}_token_id")
        for there, name in _TOKENS.items()
    }


def _check_kind(stated: Stated) -> None:
    fields, file = stated.header.fields, str(stated.header.path)
    if fields.get("general.type", "model") != "model":
        raise UserError(
            f"model.source.gguf_file: {file!r} holds a {fields['general.type']}, expected a model"
        )
    parts = fields.get("split.count", 1)
    if isinstance(parts, int) and parts > 1:
        raise UserError(
            f"model.source.gguf_file: {file!r} is one of {parts} parts; join them with "
            "`llama-gguf-split --merge` and give the whole file"
        )
    if stated.architecture not in FAMILIES:
        raise UserError(
            f"model.source.gguf_file: {file!r} is of architecture {stated.architecture!r}, "
            f"expected one of {', '.join(FAMILIES)}; give the model's folder of safetensors"
        )


def _check_layers(stated: Stated) -> None:
    """Refuse metadata with more layers than the file has tensors."""
    layers, held = stated.count("block_count"), len(stated.header.tensors)
    if layers > held:
        raise UserError(
            f"model.source.gguf_file: {str(stated.header.path)!r} names {layers} layers and holds "
            f"{held} tensors; the file is damaged, copy or download it again"
        )
