"""A tiny configuration of any type of language model that transformers knows.

Fields are shrunk by their names, in the configuration and in the ones inside it. Types whose
fields constrain each other in ways of their own have a few values in `OWN`.
"""

import re
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED,
)

VOCAB, LENGTH, PAD = 96, 64, 1
MOST = 30_000_000
"""Parameters that a model may have to be built; one that has more ignores small sizes."""

# Value of an integer field by the first expression that is its name as a whole.
SIZES: list[tuple[str, int]] = [
    (r"num_(nextn_predict|mtp|shared_kv|kv_shared)_.*layers?|first_k_dense_replace", 0),
    (r".*vocab_?size.*|n_vocab|.*group_vocab", VOCAB),
    (r"d_model|.*hidden_?size.*|n_embd|n_embed|dim|embed_?dim|emb_dim|d_embed|lru_width", 32),
    (r"word_embed_proj_dim|.*embedding_size|embedding_dim|bottleneck_size|d_latents", 32),
    (r".*intermediate_size.*|.*ffn_dim|n_inner|d_inner|d_ff|.*ffn_hidden_size|ffn_embed_dim", 64),
    (r"(.*_)?n?_?layers?|num_hidden_groups|depth|num_self_attends_per_block", 2),
    (r".*(key_value|kv)_heads?|n_head_kv|kv_n_heads", 2),
    (r".*head_dim|.*_head_size|kv_channels|d_kv|d_head", 8),
    (r".*heads?", 4),
    (r".*_rank|ple_embed_dim|hc_lowrank|ngram_vocab_size_base", 8),
    (
        r"max_position_embeddings|n_positions|n_ctx|max_seq_len|.*context_length|max_target.*",
        LENGTH,
    ),
    (r"max_source_positions|max_sequence_length|seq_length|original_max_position.*", LENGTH),
    (r".*num.*experts|n_routed_experts|moe_num_experts|num_latents|split_ngram_parts", 4),
    (r".*experts_per_tok|num_experts_per_token|moe_topk|moe_k|moe_top_k|top_k|topk", 2),
    (r"index_topk", 4),
    (r"n_groups?|num_(expert_)?groups?|topk_group|.*shared_experts|zero_expert_num", 1),
    (r"sliding_window|sliding_window_size|window_size|local_attention_window_len", 8),
    (r"rotary_dim|num_mel_bins|image_size|patch_size", 4),
]
TOKENS = re.compile(r".*(_token_id|_token_index|_id)")


def keys(kind: str) -> list[str]:
    """Types of a kind, ``causal`` or ``masked``."""
    return sorted(CAUSAL if kind == "causal" else MASKED)


def tiny_config(model_type: str, kind: str) -> Any:
    """A small configuration of a model type.

    Raises:
        Exception: whatever the configuration raises, where shrinking breaks a rule of its own.
    """
    default = AutoConfig.for_model(model_type, **START.get(model_type, {}))
    values = _shrunk(default.to_dict())
    _merge(values, OWN.get(model_type, {}))
    for name in ("model_type", "transformers_version", "architectures"):
        values.pop(name, None)
    config = type(default)(**values)
    if kind == "causal":
        config.is_decoder = True
    for one in _nested(config):
        one._attn_implementation = None
        one.use_cache = False
    return config


def build(model_type: str, kind: str) -> nn.Module:
    """A random model with weights larger than at initialization, biases and norms included.

    Raises:
        TooLargeError: if it ignores the small sizes.
        Exception: whatever the model raises that the configuration does not fit.
    """
    config = tiny_config(model_type, kind)
    auto = AutoModelForCausalLM if kind == "causal" else AutoModelForMaskedLM
    with torch.device("meta"):
        count = sum(p.numel() for p in auto.from_config(config).parameters())
    if count > MOST:
        raise TooLargeError(
            f"{count / 1e6:.0f} million parameters are left of a shrunk configuration"
        )
    torch.manual_seed(0)
    model: nn.Module = auto.from_config(config).eval().requires_grad_(False).float()
    for weight in model.parameters():
        if weight.is_floating_point():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


class TooLargeError(RuntimeError):
    """A model that stays large."""


def _shrunk(values: dict[str, Any]) -> dict[str, Any]:
    layers = max((v for k, v in values.items() if k in LAYERS and isinstance(v, int)), default=0)
    lists = [v for v in values.values() if isinstance(v, list) and len(v) == layers > 2]
    count = min(max([2, *(len(set(map(str, one))) for one in lists)]), 4)
    small: dict[str, Any] = {}
    for name, value in values.items():
        if name == "per_layer_config" and isinstance(value, dict):
            small[name] = {place: one for place, one in value.items() if int(place) < count}
        elif isinstance(value, dict):
            small[name] = _shrunk(value) if "model_type" in value else value
        elif isinstance(value, list) and len(value) == layers > 2:
            small[name] = _distinct(value, count)
        elif isinstance(value, int) and not isinstance(value, bool):
            small[name] = count if name in LAYERS else _small(name, value)
        else:
            small[name] = value
    if "kv_lora_rank" in values and values.get("num_key_value_heads"):
        small["num_key_value_heads"] = 4  # latent attention has a key for each query
    return small


LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers")


def _distinct(values: list[Any], count: int) -> list[Any]:
    """Elements of each kind that a list has, in order, filled up from its start."""
    places: dict[str, int] = {}
    for place, value in enumerate(values):
        places.setdefault(str(value), place)
    chosen = sorted(places.values())[:count]
    rest = [place for place in range(len(values)) if place not in chosen]
    return [values[place] for place in sorted(chosen + rest[: count - len(chosen)])]


def _small(name: str, value: int) -> int:
    if TOKENS.fullmatch(name):
        if name == "pad_token_id":
            return PAD
        return value if 0 <= value < VOCAB else VOCAB - 1
    for pattern, size in SIZES:
        if re.fullmatch(pattern, name):
            return min(size, value) if value > 0 else value
    return value


def _merge(values: dict[str, Any], own: dict[str, Any]) -> None:
    for name, value in own.items():
        if isinstance(value, dict) and isinstance(values.get(name), dict):
            _merge(values[name], value)
        else:
            values[name] = value


def _nested(config: Any) -> list[Any]:
    found = [config]
    for name in getattr(config, "sub_configs", None) or {}:
        one = getattr(config, name, None)
        if one is not None and hasattr(one, "to_dict"):
            found += _nested(one)
    return found


_ASSISTANT = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
START: dict[str, dict[str, Any]] = {
    "gemma4_assistant": {"text_config": _ASSISTANT},
    "gemma4_unified_assistant": {"text_config": _ASSISTANT},
}
"""What a type whose own defaults it refuses is made with."""

_MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8}
_CHUNKS = {"lsh_attn_chunk_length": 4, "local_attn_chunk_length": 4, "num_buckets": 2}
_INDEXER = {"indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 8}
_SLIDING = {
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "v_head_dim"), 8),
    **dict.fromkeys(("qk_nope_head_dim", "qk_rope_head_dim"), 8),
    "head_dim": 16,
}
_DOTS3 = {
    "num_hidden_layers": 2,
    "layer_types": ["indexed_attention", "sliding_attention"],
    "per_layer_config": {1: _SLIDING},
}
_QWEN4 = {**_INDEXER, "indexer_budget": 8, "indexer_compress_ratio": 2}
OWN: dict[str, dict[str, Any]] = {
    "bamba": _MAMBA,
    "blt": {"patching_threshold": 4.0},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}
    },
    "dbrx": {"attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0}},
    "deepseek_v2": {"num_experts_per_tok": 2, "n_routed_experts": 4, "first_k_dense_replace": 1},
    "deepseek_v4": {
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8}
    },
    "dots3_note": {
        "text_config": _DOTS3,
        "audio_config": {"adapter_in_dim": 32, "adapter_input_size": 32, "adapter_out_dim": 32},
        "vision_config": {"adapter_in_dim": 32, "adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": _DOTS3,
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "esm": {"vocab_size": VOCAB, "pad_token_id": PAD, "mask_token_id": 2},
    "esmc": {"vocab_size": VOCAB, "num_key_value_heads": None},
    "falcon_h1": {**_MAMBA, "mamba_d_ssm": 64},
    "granitemoehybrid": _MAMBA,
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "longcat_flash": {"qk_head_dim": 16},
    "longformer": {"attention_window": [4, 4]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "n_groups": 1},
    "ministral": {"head_dim": 8},
    "mobilebert": {"intra_bottleneck_size": 32, "true_hidden_size": 32, "embedding_size": 16},
    "nemotron": {"num_key_value_heads": 2, "head_dim": 8},
    "neomme": {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16},
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "reformer": {"axial_pos_shape": [8, 8], "axial_pos_embds_dim": [16, 16], **_CHUNKS},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_dt_rank": 2,
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
    "zamba2": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "mamba_headdim": 8,
        "n_mamba_heads": 8,
        "num_key_value_heads": 4,
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "hybrid_layer_ids": [1, 3],
    },
}
