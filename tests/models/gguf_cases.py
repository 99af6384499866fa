"""A tiny model of each family that is read from GGUF files, and what llama.cpp's converter says."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from gguf_models import Fields, write_model
from torch import nn

from zolit.models.source import ModelSource

SIZES: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
FIELDS: Fields = {
    "context_length": 64,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "block_count": 2,
    "attention.head_count": 4,
    "attention.head_count_kv": 2,
}
RMS: Fields = {"attention.layer_norm_rms_epsilon": 1e-5}
NORM: Fields = {"attention.layer_norm_epsilon": 1e-4}
WIDTH: Fields = {"attention.key_length": 32, "attention.value_length": 32}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
EXPERT_FIELDS: Fields = {
    "expert_count": 4,
    "expert_used_count": 2,
    "expert_feed_forward_length": 32,
}
SHORT, LONG = [1 + 0.1 * n for n in range(6)], [2.0 + n for n in range(6)]


@dataclass
class Case:
    """A model and what llama.cpp's converter says of it."""

    architecture: str
    kind: str
    options: dict[str, Any]
    fields: Fields
    extra: dict[str, list[float]] = field(default_factory=dict)

    def model(self) -> nn.Module:
        tokens = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
        config = hf.AutoConfig.for_model(self.kind, **{**tokens, **self.options})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = hf.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
            for one in model.parameters():
                one.add_(0.05 * torch.randn_like(one))
        return model

    def write(self, folder: Path, model: nn.Module, **changes: Any) -> ModelSource:
        extra = {name: torch.tensor(values) for name, values in self.extra.items()}
        fields = {**self.fields, **changes}
        return write_model(folder, model, self.architecture, fields, extra)


def rotary(theta: float = 1e4, kind: str = "default", **options: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": theta, "rope_type": kind, **options}}


GEMMA = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8, "rms_norm_eps": 1e-5}
CASES = {
    "llama": Case("llama", "llama", {**SIZES, "rms_norm_eps": 1e-5}, {**FIELDS, **RMS}),
    "llama, all that it may have": Case(
        "llama",
        "llama",
        {
            **SIZES,
            "rms_norm_eps": 1e-5,
            "head_dim": 32,
            "attention_bias": True,
            "mlp_bias": True,
            "tie_word_embeddings": True,
            **rotary(5e5),
        },
        {**FIELDS, **RMS, **WIDTH, "rope.freq_base": 5e5, "rope.dimension_count": 32},
    ),
    "qwen2": Case(
        "qwen2",
        "qwen2",
        {**SIZES, "rms_norm_eps": 1e-5, **rotary(1e6)},
        {**FIELDS, **RMS, "rope.freq_base": 1e6},
    ),
    "qwen3": Case(
        "qwen3",
        "qwen3",
        {**SIZES, "rms_norm_eps": 1e-5, "head_dim": 32, **rotary(1e6)},
        {**FIELDS, **RMS, **WIDTH, "rope.freq_base": 1e6},
    ),
    "qwen2moe": Case(
        "qwen2moe",
        "qwen2_moe",
        {
            **SIZES,
            **EXPERTS,
            "rms_norm_eps": 1e-5,
            "shared_expert_intermediate_size": 48,
            **rotary(1e6),
        },
        {
            **FIELDS,
            **RMS,
            **EXPERT_FIELDS,
            "expert_shared_feed_forward_length": 48,
            "rope.freq_base": 1e6,
        },
    ),
    "qwen3moe": Case(
        "qwen3moe",
        "qwen3_moe",
        {
            **SIZES,
            **EXPERTS,
            "rms_norm_eps": 1e-5,
            "head_dim": 32,
            "norm_topk_prob": True,
            **rotary(1e6),
        },
        {**FIELDS, **RMS, **WIDTH, **EXPERT_FIELDS, "rope.freq_base": 1e6},
    ),
    "phi3": Case(
        "phi3",
        "phi3",
        {
            **SIZES,
            "rms_norm_eps": 1e-5,
            "sliding_window": 8,
            "original_max_position_embeddings": 16,
            **rotary(
                1e4,
                "longrope",
                partial_rotary_factor=0.75,
                short_factor=SHORT,
                long_factor=LONG,
                attention_factor=1.2,
                original_max_position_embeddings=16,
            ),
        },
        {
            **FIELDS,
            **RMS,
            "attention.sliding_window": 8,
            "rope.dimension_count": 12,
            "rope.scaling.type": "longrope",
            "rope.scaling.attn_factor": 1.2,
            "rope.scaling.original_context_length": 16,
        },
        {"rope_factors_long.weight": LONG, "rope_factors_short.weight": SHORT},
    ),
    "gemma2": Case(
        "gemma2",
        "gemma2",
        {**SIZES, **GEMMA, "attn_logit_softcapping": 20.0, "final_logit_softcapping": 2.0},
        {
            **FIELDS,
            **RMS,
            **WIDTH,
            "attention.sliding_window": 8,
            "attn_logit_softcapping": 20.0,
            "final_logit_softcapping": 2.0,
        },
    ),
    "gemma3": Case(
        "gemma3",
        "gemma3_text",
        {
            **SIZES,
            **GEMMA,
            "num_hidden_layers": 7,
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 1e5, "factor": 4.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            },
        },
        {
            **FIELDS,
            **RMS,
            **WIDTH,
            "block_count": 7,
            "attention.sliding_window": 8,
            "rope.freq_base": 1e5,
            "rope.scaling.type": "linear",
            "rope.scaling.factor": 4.0,
        },
    ),
    "gpt2": Case(
        "gpt2",
        "gpt2",
        {
            "vocab_size": 100,
            "n_embd": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_positions": 64,
            "n_inner": 96,
            "layer_norm_epsilon": 1e-4,
        },
        {**FIELDS, **NORM, "attention.head_count_kv": 4},
    ),
    "starcoder2": Case(
        "starcoder2",
        "starcoder2",
        {**SIZES, "norm_epsilon": 1e-4, **rotary(1e5)},
        {**FIELDS, **NORM, "rope.freq_base": 1e5, "rope.dimension_count": 16},
    ),
    "stablelm": Case(
        "stablelm",
        "stablelm",
        {
            **SIZES,
            "layer_norm_eps": 1e-4,
            "use_qkv_bias": True,
            **rotary(2e4, partial_rotary_factor=0.5),
        },
        {**FIELDS, **NORM, "rope.freq_base": 2e4, "rope.dimension_count": 8},
    ),
    "nemotron": Case(
        "nemotron",
        "nemotron",
        {**SIZES, "head_dim": 16, "norm_eps": 1e-4, **rotary(2e4, partial_rotary_factor=0.5)},
        {**FIELDS, **NORM, "rope.freq_base": 2e4, "rope.dimension_count": 8},
    ),
    "falcon": Case(
        "falcon",
        "falcon",
        {
            "vocab_size": 100,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "ffn_hidden_size": 96,
            "max_position_embeddings": 64,
            "layer_norm_epsilon": 1e-4,
            **rotary(2e4),
        },
        {**FIELDS, **NORM, "attention.head_count_kv": 1, "rope.freq_base": 2e4},
    ),
    "bloom": Case(
        "bloom",
        "bloom",
        {
            "vocab_size": 100,
            "hidden_size": 64,
            "n_layer": 2,
            "n_head": 4,
            "layer_norm_epsilon": 1e-4,
        },
        {**FIELDS, **NORM, "feed_forward_length": 256, "attention.head_count_kv": 4},
    ),
    "mamba": Case(
        "mamba",
        "mamba",
        {
            "vocab_size": 100,
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "state_size": 8,
            "conv_kernel": 4,
            "expand": 2,
            "time_step_rank": 4,
        },
        {
            **FIELDS,
            **RMS,
            "feed_forward_length": 0,
            "attention.head_count": 0,
            "attention.head_count_kv": 0,
            "ssm.conv_kernel": 4,
            "ssm.state_size": 8,
            "ssm.inner_size": 128,
            "ssm.time_step_rank": 4,
        },
    ),
    "lfm2": Case(
        "lfm2",
        "lfm2",
        {
            **SIZES,
            "layer_types": ["conv", "full_attention"],
            "conv_L_cache": 3,
            "conv_bias": False,
            "block_auto_adjust_ff_dim": False,
            "norm_eps": 1e-5,
            **rotary(1e5),
        },
        {
            **FIELDS,
            **RMS,
            "attention.head_count_kv": [0, 2],
            "rope.freq_base": 1e5,
            "shortconv.l_cache": 3,
        },
    ),
}
