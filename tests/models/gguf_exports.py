"""Tiny models, and their exports as GGUF files."""

from pathlib import Path
from typing import Any

import torch
import transformers as hf
from gguf import GGMLQuantizationType, GGUFReader
from preparing import prepare
from tiny_tokenizer import byte_bpe
from torch import Tensor, nn

from zolit.models.gguf.write import save_gguf
from zolit.strategies import DensePerturber, Quantizer, ScalePerturber
from zolit.tensors.reading import Reading

SIZES: dict[str, Any] = {
    "vocab_size": 290,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
LINEAR = {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 16,
}
MODELS = {
    "llama": (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZES)),
    "llama, tied": (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "mistral": (hf.MistralForCausalLM, hf.MistralConfig(**SIZES, sliding_window=None)),
    "qwen2": (hf.Qwen2ForCausalLM, hf.Qwen2Config(**SIZES)),
    "qwen3": (hf.Qwen3ForCausalLM, hf.Qwen3Config(**SIZES, head_dim=128)),
}
"""That transformers' own reader reads as well."""
FURTHER = {
    "llama, biases": (
        hf.LlamaForCausalLM,
        hf.LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True),
    ),
    "llama, wide heads": (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZES, head_dim=32)),
    "llama, llama3": (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZES, rope_parameters=LLAMA3)),
    "llama, linear": (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZES, rope_parameters=LINEAR)),
    "llama, yarn": (hf.LlamaForCausalLM, hf.LlamaConfig(**SIZES, rope_parameters=YARN)),
    "llama, yarn with an attention factor": (
        hf.LlamaForCausalLM,
        hf.LlamaConfig(**SIZES, rope_parameters={**YARN, "attention_factor": 1.5}),
    ),
    "llama, yarn with scales": (
        hf.LlamaForCausalLM,
        hf.LlamaConfig(**SIZES, rope_parameters={**YARN, "mscale": 0.7, "mscale_all_dim": 1.4}),
    ),
    "mistral, llama3": (
        hf.MistralForCausalLM,
        hf.MistralConfig(**SIZES, sliding_window=64, rope_parameters=LLAMA3),
    ),
    "qwen2, yarn": (hf.Qwen2ForCausalLM, hf.Qwen2Config(**SIZES, rope_parameters=YARN)),
    "qwen3, linear": (
        hf.Qwen3ForCausalLM,
        hf.Qwen3Config(**SIZES, head_dim=32, rope_parameters=LINEAR),
    ),
}


def tiny(name: str = "llama") -> nn.Module:
    build, config = {**MODELS, **FURTHER}[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build(config).eval().requires_grad_(False)
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return model


def made_tokenizer() -> Any:
    """A byte-level BPE tokenizer."""
    made = byte_bpe(["a bright film", "a dull film"] * 9, ["<s>", "</s>"], 280)
    names = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>"}
    return hf.PreTrainedTokenizerFast(tokenizer_object=made, **names)


def written(
    model: nn.Module, quantizer: Quantizer, tokenizer: Any, to: Path, kind: str | None = None
) -> tuple[Tensor, list[str]]:
    """Logits of the prepared model, and the notes of its export."""
    perturber = ScalePerturber() if quantizer.quantized else DensePerturber()
    prepare(model, quantizer, perturber, Reading(perturber.direction(), "reference"), ["linear"])
    tokenizer.save_pretrained(to)
    notes = save_gguf(model, tokenizer, kind, to)
    return logits(model), notes


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(24).view(2, 12) * 7 % 260).logits


def loaded(folder: Path) -> Tensor:
    options: Any = {"gguf_file": "model.gguf", "dtype": torch.float32}
    return logits(hf.AutoModelForCausalLM.from_pretrained(folder, **options))


def kinds(folder: Path) -> dict[str, GGMLQuantizationType]:
    return {t.name: t.tensor_type for t in GGUFReader(folder / "model.gguf").tensors}
