"""Adapters: small float weights beside layers whose own weights stay as they are stored."""

from zolit.models.adapters.base import Adapter, Factor, LayerAdapter, keyed_uniform
from zolit.models.adapters.lora import LoRA

__all__ = ["Adapter", "Factor", "LayerAdapter", "LoRA", "keyed_uniform"]
