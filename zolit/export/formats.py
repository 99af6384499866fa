"""The forms in which a run's model is exported, by name."""

from zolit.caller import by_caller, export_format
from zolit.errors import UserError
from zolit.extras import EXTRAS, require_extra

FORMATS = {
    "safetensors": "Weights are stored as plain floats.",
    "torchao": "Weights are stored as torchao's tensors: codes and scales as they were tuned.",
    "gguf": 'Weights are stored in `model.gguf`; load it with llama.cpp, or with `gguf_file="model.'
    'gguf"` in `from_pretrained`.',
    "peft": "The adapter alone, in PEFT's format: `PeftModel.from_pretrained(model, folder)`.",
}
"""The formats, and the sentence in the model card about each."""

GGUF_TYPES = ("Q8_0", "Q4_0", "Q4_1", "F16")
"""Block formats of GGUF that a user can choose."""


def check_format(kind: str, gguf_type: str | None) -> None:
    """Refuse a format that cannot be written here.

    Args:
        kind: of the export.
        gguf_type: block format of GGUF; None if it was not given.

    Raises:
        UserError: if there is no such format, its package is not installed, or it has no blocks.
    """
    if kind not in FORMATS:
        raise UserError(f"kind: got {kind!r}, expected one of {', '.join(FORMATS)}")
    if gguf_type is not None and kind != "gguf":
        raise UserError(
            f"{by_caller('--gguf-type', 'gguf_type')}: got {gguf_type} beside "
            f"{export_format(kind)}; use {export_format('gguf')}"
        )
    if gguf_type is not None and gguf_type not in GGUF_TYPES:
        raise UserError(f"gguf_type: got {gguf_type!r}, expected one of {', '.join(GGUF_TYPES)}")
    if kind in EXTRAS:
        require_extra(kind, f"{by_caller('--format', 'kind')}: writing {kind}")
