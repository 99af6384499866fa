"""Refuses a damaged config.json of a checkpoint, in a sentence that names the field."""

import json
from pathlib import Path
from typing import Any

from zolit.errors import UserError

FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Exceptions that transformers raises over fields of an unexpected type or value."""

_DTYPES = ("dtype", "torch_dtype")
_COUNTS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "n_embd",
    "n_head",
    "n_layer",
    "n_positions",
    "max_position_embeddings",
)
"""Fields that are counts, where they are numbers."""


def check_config_file(folder: str, origin: str) -> None:
    """Refuse a config.json on which transformers would fail without naming the field.

    Args:
        folder: of the checkpoint; nothing is checked if it is not a local folder.
        origin: name of the checkpoint, for messages.

    Raises:
        UserError: if it is not a mapping in JSON, or a field is of a wrong type.
    """
    file = Path(folder, "config.json")
    if not file.is_file():
        return
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise not_valid(origin, error) from error
    if not isinstance(content, dict):
        raise _wrong(file, "its content", content, "a mapping of fields")
    names = content.get("architectures")
    if names is not None and not isinstance(names, list):
        raise _wrong(file, "architectures", names, "a list of names, such as ['LlamaForCausalLM']")
    declared = content.get("quantization_config")
    if declared is not None and not isinstance(declared, dict):
        expected = 'a mapping such as {"quant_method": "gptq", "bits": 4}'
        raise _wrong(file, "quantization_config", declared, expected)
    for name in _DTYPES:
        value = content.get(name)
        if value is not None and not (isinstance(value, str) and value.isidentifier()):
            raise _wrong(file, name, value, "the name of a type, such as 'bfloat16'")
    for name in _COUNTS:
        value = content.get(name)
        if isinstance(value, int | float) and value < 1:
            raise _wrong(file, name, value, "a positive number")
    pad, size = content.get("pad_token_id"), content.get("vocab_size")
    if isinstance(pad, int) and isinstance(size, int) and pad >= size:
        raise _wrong(file, "pad_token_id", pad, f"an id below vocab_size={size}")


def _wrong(file: Path, field: str, value: Any, expected: str) -> UserError:
    shown = repr(value)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return UserError(
        f"model.source: {field} of {str(file)!r} is {shown}, expected {expected}; give the "
        "config.json that belongs to the checkpoint"
    )


def not_valid(origin: str, error: BaseException) -> UserError:
    """The error for a configuration from which no model can be made."""
    said = " ".join(str(error).split()) or "no reason given"
    if isinstance(error, ImportError):
        return UserError(
            f"model.source: the model of {origin!r} needs a package that is not installed "
            f"({said[:300].rstrip('.')}); install it beside zolit"
        )
    return UserError(
        f"model.source: the config.json of {origin!r} does not describe a model "
        f"({type(error).__name__}: {said[:300].rstrip('.')}); give the config.json that belongs to "
        "the checkpoint"
    )
