"""Folders of tiny Llamas in float8, int8, packed and AWQ codes, with the weights they stand for."""

from pathlib import Path
from typing import Any

import torch
from quantized_folders import float_model, write_config
from safetensors.torch import save_file
from scaled_layers import awq_layer, compressed, packed_layer, scaled_layer
from torch import Tensor, nn

DYNAMIC = {"num_bits": 8, "type": "float", "strategy": "token", "dynamic": True}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic"}
KINDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "fp8, blocks": ({**FP8, "weight_block_size": [128, 128]}, "blocks", "Float8Weight"),
    "fp8, tensors": ({**FP8, "activation_scheme": "static"}, "tensor", "Float8Weight"),
    "fbgemm_fp8": ({"quant_method": "fbgemm_fp8"}, "channel", "Float8Weight"),
    "float-quantized": (compressed("float-quantized", DYNAMIC), "channel", "Float8Weight"),
    "int-quantized": (compressed("int-quantized", type="int"), "int8", "Int8Weight"),
    "pack-quantized": (
        compressed("pack-quantized", num_bits=4, type="int", strategy="group", group_size=32),
        "packed",
        "Int4Weight",
    ),
    "awq": (
        {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"},
        "awq",
        "Int4Weight",
    ),
}
"""By name: quantization_config, how layers are made, and how they are kept."""


def _layer(how: str, rows: int, columns: int, seed: int) -> tuple[dict[str, Tensor], Any]:
    if how == "packed":
        return packed_layer(4, rows, columns, 32, symmetric=False)
    if how == "awq":
        return awq_layer(rows, columns, 32)
    blocks = {"blocks": (128, 128), "tensor": (rows, columns)}
    kind = "int8" if how == "int8" else "float8"
    return scaled_layer(rows, columns, blocks.get(how, (1, columns)), kind, seed=seed)


def scaled_llama(folder: Path, kind: str, **changes: Any) -> tuple[nn.Module, dict[str, Tensor]]:
    """Write a checkpoint; returns the float model of its decoded weights, and its tensors.

    Args:
        folder: that is written to.
        kind: a key of `KINDS`.
        changes: to the configuration.
    """
    declared, how, _ = KINDS[kind]
    model = float_model(**changes)
    tensors: dict[str, Tensor] = {}
    for seed, (path, module) in enumerate(model.model.named_modules()):
        if isinstance(module, nn.Linear):
            parts, weight = _layer(how, module.out_features, module.in_features, seed)
            # Weights of the size of a trained model's.
            name = "scales" if how == "awq" else "weight_scale"
            shrink = 2.0 ** -(3 if how in ("awq", "packed") else 5)
            parts[name] = parts[name] * shrink
            if kind == "fp8, blocks":
                parts["weight_scale_inv"] = parts.pop("weight_scale")
            if kind == "fp8, tensors":
                parts["weight_scale"] = parts["weight_scale"].view(())
                parts["input_scale"] = torch.tensor(0.5)
            module.weight.copy_(torch.from_numpy(weight * shrink).float())
            tensors |= {f"model.{path}.{name}": part for name, part in parts.items()}
    quantized = {name.rpartition(".")[0] for name in tensors}
    for name, value in model.state_dict().items():
        if name.rpartition(".")[0] not in quantized:
            tensors[name] = value
    write_config(folder, model, declared)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "model.safetensors")
    return model, tensors
