"""Load the weights of a language model."""

from typing import Any

import torch
from torch import nn

from zolit.compat import GgufConfig
from zolit.errors import UserError
from zolit.models.source import ModelSource


def load_model(source: ModelSource, dtype: torch.dtype) -> nn.Module:
    """A transformers language model in eval mode, no parameter requiring a gradient.

    Args:
        source: hub name, folder or GGUF file.
        dtype: of its floating-point weights.

    Raises:
        UserError: if the model cannot be read.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

    path = source.resolved_path()
    config = source.load_config()
    kind = source.resolved_kind(config)
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForMaskedLM
    options: dict[str, Any] = {"dtype": dtype, "trust_remote_code": source.trust_remote_code}
    if source.gguf_file is not None:
        options["gguf_file"] = source.gguf_file
        # zolit quantizes by itself; packed GGUF layers have no weight that it could read.
        options["quantization_config"] = GgufConfig(dequantize=True)
    else:
        options["config"] = config
    if source.revision is not None:
        options["revision"] = source.revision
    try:
        model = auto.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(
            f"model.source.path: no weights could be read from {source.path!r} ({reason}); give a "
            "folder saved by save_pretrained or a hub name, and check the network"
        ) from error
    # A GGUF file is expanded on load; its quantization_config no longer describes the weights.
    if source.gguf_file is not None and hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model.eval().requires_grad_(False)
