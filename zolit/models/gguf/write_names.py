"""Names and row orders that llama.cpp gives to the weights of a transformers model."""

from dataclasses import dataclass
from typing import Any

import torch
from gguf import MODEL_ARCH, get_tensor_name_map
from torch import Tensor

from zolit.caller import export_format
from zolit.errors import UserError


@dataclass(frozen=True)
class Family:
    """How llama.cpp stores a family of models.

    Attributes:
        architecture: as which it reads them.
        interleaved: whether the rows of queries and keys are stored with the two halves of each
            head's rotation interleaved.
        width: whether the width of a head may differ from the hidden size over the heads.
        attention_bias: whether llama.cpp reads biases of attention.
    """

    architecture: MODEL_ARCH
    interleaved: bool
    width: bool = True
    attention_bias: bool = True


FAMILIES = {
    "llama": Family(MODEL_ARCH.LLAMA, True),
    "mistral": Family(MODEL_ARCH.LLAMA, True),
    "qwen2": Family(MODEL_ARCH.QWEN2, False, width=False),
    "qwen3": Family(MODEL_ARCH.QWEN3, False, attention_bias=False),
}
"""By transformers' model type."""


def family_of(config: Any) -> Family:
    """The family of a model.

    Raises:
        UserError: if zolit does not know how llama.cpp stores such models.
    """
    kind = getattr(config, "model_type", None)
    if kind not in FAMILIES:
        raise UserError(
            f"{export_format('gguf')}: got a model of type {kind!r}, expected one of "
            f"{', '.join(FAMILIES)}; use {export_format('safetensors')} and convert the folder "
            "with llama.cpp's own script"
        )
    window, context = getattr(config, "sliding_window", None), config.max_position_embeddings
    if getattr(config, "use_sliding_window", True) and window is not None and window < context:
        raise UserError(
            f"{export_format('gguf')}: the model attends to {window} of its {context} positions, "
            "which llama.cpp has no place for in this architecture; use "
            f"{export_format('safetensors')}"
        )
    family, usual = FAMILIES[kind], config.hidden_size // config.num_attention_heads
    if not family.width and (getattr(config, "head_dim", None) or usual) != usual:
        raise _without_place(f"heads of {config.head_dim} dimensions, not of {usual}", kind)
    if not family.attention_bias and getattr(config, "attention_bias", False):
        raise _without_place("attention_bias: true", kind)
    return family


def _without_place(what: str, kind: str) -> UserError:
    return UserError(
        f"{export_format('gguf')}: the model has {what}, which llama.cpp does not load for {kind}; "
        f"use {export_format('safetensors')}"
    )


class Names:
    """Maps a parameter of the model to its tensor in the file.

    Args:
        config: transformers configuration.

    Raises:
        UserError: see `family_of`.
    """

    def __init__(self, config: Any) -> None:
        self.family = family_of(config)
        layers = config.num_hidden_layers
        self._map = get_tensor_name_map(self.family.architecture, layers)
        self._heads = {
            "attn_q": config.num_attention_heads,
            "attn_k": config.num_key_value_heads,
        }

    def __getitem__(self, path: str) -> str:
        """Name in the file of the parameter ``path``.

        Raises:
            UserError: if the architecture has no such tensor.
        """
        name = self._map.get_name(path, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise UserError(
                f"{export_format('gguf')}: {self.family.architecture.name.lower()} files have no "
                f"place for the parameter {path}; use {export_format('safetensors')}"
            )
        return str(name)

    def rows(self, name: str, count: int) -> Tensor | None:
        """The row of the model at each row of the file; None for the same order.

        Args:
            name: in the file.
            count: rows.
        """
        heads = self._heads.get(name.split(".")[-2])
        if heads is None or not self.family.interleaved:
            return None
        # llama.cpp rotates neighbouring rows of a head, transformers its two halves.
        return torch.arange(count).view(heads, 2, -1).transpose(1, 2).flatten()
