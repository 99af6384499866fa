"""Random mixture-of-experts models, small enough to run a hundred times."""

import torch
import transformers as hf
from preparing import prepare
from torch import Tensor, nn

from zolit.kernels.dispatch import Preference
from zolit.strategies import Mask, Perturber, Quantizer
from zolit.tensors.reading import Reading

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "num_experts_per_tok": 2,
    "pad_token_id": 1,
}
MOE = {**SIZES, "moe_intermediate_size": 64, "num_experts": 5}
MODELS: dict[str, tuple[type[nn.Module], type, dict]] = {
    "mixtral": (
        hf.MixtralForCausalLM,
        hf.MixtralConfig,
        {**SIZES, "num_local_experts": 4, "sliding_window": None},
    ),
    "qwen2_moe": (
        hf.Qwen2MoeForCausalLM,
        hf.Qwen2MoeConfig,
        {**MOE, "shared_expert_intermediate_size": 64, "decoder_sparse_step": 1},
    ),
    "qwen3_moe": (hf.Qwen3MoeForCausalLM, hf.Qwen3MoeConfig, MOE),
    "gpt_oss": (hf.GptOssForCausalLM, hf.GptOssConfig, {**SIZES, "num_local_experts": 4}),
}

IDS = 2 + torch.arange(4 * 8).view(4, 8) * 7 % 94


def tiny(name: str) -> nn.Module:
    """A model with weights larger than at initialization, biases and norms included."""
    model_class, config_class, options = MODELS[name]
    torch.manual_seed(0)
    model = model_class(config_class(**options)).eval().requires_grad_(False)
    for weight in model.parameters():
        weight.add_(0.1 * torch.randn_like(weight))
    return model


def eager(name: str) -> nn.Module:
    """The same, its experts multiplied by the plainest code of transformers."""
    model = tiny(name)
    model.set_experts_implementation("eager")
    return model


def logits(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=ids).logits
    return found


def prepared(
    name: str,
    quantizer: Quantizer,
    perturber: Perturber,
    tune: list[str] | None = None,
    kernels: Preference = "reference",
    chunk_bytes: int = 16 << 20,
    mask: Mask | None = None,
) -> tuple[nn.Module, Reading]:
    """A model whose pairs can be read at once, and its reading."""
    model = tiny(name)
    reading = Reading(perturber.direction(), kernels, chunk_bytes)
    assert prepare(model, quantizer, perturber, reading, tune or ["linear"], mask=mask)
    return model, reading


def expert_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """The stacks of matrices of a model's experts."""
    return {
        path: parameter
        for path, parameter in model.named_parameters()
        if ".experts." in path and parameter.dim() == 3
    }
