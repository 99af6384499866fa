"""Folders of tiny quantized Llamas, with the float weights that their codes stand for."""

import json
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from checkpoint_layers import aqlm_layer, gptq_layer
from safetensors.torch import save_file
from torch import Tensor, nn

CONFIG: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
}
GPTQ: dict[str, dict[str, Any]] = {
    "2 bits": {"bits": 2},
    "3 bits, act-order": {"bits": 3, "act_order": True},
    "4 bits": {"bits": 4, "v2": False},
    "4 bits, act-order": {"bits": 4, "act_order": True},
    "8 bits": {"bits": 8, "group_size": -1},
}
AQLM = {"1x16": (1, 16), "2x8": (2, 8)}


def float_model(**changes: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = hf.LlamaForCausalLM(hf.LlamaConfig(**{**CONFIG, **changes}))
    return model.eval().requires_grad_(False)


def _layer(kind: str, rows: int, columns: int, seed: int) -> tuple[dict[str, Tensor], Any]:
    if kind in AQLM:
        return aqlm_layer(*AQLM[kind], rows=rows, columns=columns, seed=seed)
    options = {"group_size": 32, **GPTQ[kind]}
    one = gptq_layer(rows=rows, columns=columns, seed=seed, **options)
    return one.tensors, one.weight


def quantization_config(kind: str) -> dict[str, Any]:
    if kind in AQLM:
        books, bits = AQLM[kind]
        sizes = {"num_codebooks": books, "nbits_per_codebook": bits}
        return {"quant_method": "aqlm", "in_group_size": 8, "out_group_size": 1, **sizes}
    options = {"group_size": 32, "act_order": False, "v2": True, **GPTQ[kind]}
    return {
        "quant_method": "gptq",
        "bits": options["bits"],
        "group_size": options["group_size"],
        "desc_act": options["act_order"],
        "sym": False,
        "checkpoint_format": "gptq_v2" if options["v2"] else "gptq",
    }


def write_config(folder: Path, model: nn.Module, declared: dict[str, Any]) -> None:
    config = {**model.config.to_dict(), "quantization_config": declared}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def quantized_llama(folder: Path, kind: str, **changes: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """Write a checkpoint; returns the float model of its decoded weights, and its tensors.

    Args:
        folder: that is written to.
        kind: a key of `GPTQ` or `AQLM`.
        changes: to the configuration.
    """
    model = float_model(**changes)
    tensors: dict[str, Tensor] = {}
    for seed, (path, module) in enumerate(model.model.named_modules()):
        if isinstance(module, nn.Linear):
            # Weights of the size of a trained model's.
            parts, weight = _layer(kind, module.out_features, module.in_features, seed)
            shrink = 2.0**-4
            parts["scales"] = parts["scales"] * shrink
            module.weight.copy_(torch.from_numpy(weight * shrink).float())
            tensors |= {f"model.{path}.{name}": part for name, part in parts.items()}
            # AutoGPTQ writes a bias of zeros for every layer.
            tensors[f"model.{path}.bias"] = torch.zeros(module.out_features, dtype=torch.float16)
    quantized = {name.rpartition(".")[0] for name in tensors}
    for name, value in model.state_dict().items():
        if name.rpartition(".")[0] not in quantized:
            tensors[name] = value
    write_config(folder, model, quantization_config(kind))
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    return model, tensors
