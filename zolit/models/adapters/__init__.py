"""Adapters: small float weights that are tuned beside weights that stay as they are stored."""

from zolit.models.adapters.base import Adapter, Factor, LayerAdapter, keyed_uniform
from zolit.models.adapters.lora import LoRA

__all__ = ["Adapter", "Factor", "LayerAdapter", "LoRA", "keyed_uniform"]
