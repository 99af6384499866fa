"""A fine-tuned model in torchao's tensors, as transformers saves and loads them.

Codes and scales are written as they are. Int8 and float8 weights become ``Int8Tensor`` and
``Float8Tensor``. Codes of 2 to 4 bits and int8 codes with zero points become
``IntxUnpackedToInt8Tensor``, a byte a code: torchao's packed ``Int4Tensor`` multiplies only where
the package mslk is, which needs a GPU.
"""

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TorchAoConfig

from zolit.compat import (
    AOBaseConfig,
    AutoHfQuantizer,
    Float8Tensor,
    Float8WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8Tensor,
    Int8WeightOnlyConfig,
    IntxUnpackedToInt8Tensor,
    IntxWeightOnlyConfig,
    PerAxis,
    PerGroup,
    PerRow,
    QuantizeTensorToInt8Kwargs,
    TorchAOBaseTensor,
)
from zolit.export.plain import decoded, rounded_floats, stored_places, to_plain
from zolit.formats.base import Affine, StoredWeight
from zolit.tensors.weight import PerturbedWeight


def save_torchao(model: Any, folder: Path) -> list[str]:
    """Write codes and scales as torchao's tensors in safetensors, and the configuration.

    Args:
        model: a transformers model; its stored weights are replaced.
        folder: that exists.

    Returns:
        Sentences about weights that are not exported as the run had them.
    """
    linear = {
        id(weight) for module, _, weight in stored_places(model) if isinstance(module, nn.Linear)
    }
    kept: list[StoredWeight] = []
    lost: Counter[str] = Counter()

    def replacement(weight: PerturbedWeight) -> Tensor:
        store = weight.store
        if not store.quantized:
            return decoded(weight)
        made = torchao_tensor(store, weight.dtype) if id(weight) in linear else None
        if made is None:
            lost[store.title] += 1
            return decoded(weight)
        kept.append(store)
        return made

    notes = rounded_floats(model)
    to_plain(model, replacement)
    if kept:
        _declare(model, declared(kept[0]))
    model.save_pretrained(folder)
    notes += [
        f"{count} weights ({kind}) have no form that torchao loads; they are written as "
        f"{str(model.dtype).removeprefix('torch.')}"
        for kind, count in lost.items()
    ]
    if any(store.activation_dtype == torch.float8_e4m3fn for store in kept):
        notes.append(
            "activations are not rounded to float8 in the export: torchao's product of two float8 "
            "tensors needs a GPU"
        )
    return notes


def torchao_tensor(store: StoredWeight, dtype: torch.dtype) -> TorchAOBaseTensor | None:
    """A stored weight as torchao's tensor, which shares its codes where the layout is the same.

    Args:
        store: a weight in any format.
        dtype: that it reads as.

    Returns:
        None for a format that torchao lacks.
    """
    found = store.affine()
    if found is None:
        return None
    block = [1, store.columns // found.scale.shape[1]]
    if found.codes.is_floating_point():
        return Float8Tensor(found.codes, found.scale, block_size=block, dtype=dtype)
    if _symmetric_bytes(found):
        rounding = QuantizeTensorToInt8Kwargs(PerRow()) if store.integer_products else None
        return Int8Tensor(found.codes, found.scale, block, dtype, act_quant_kwargs=rounding)
    return _intx(found, block, dtype)


def _symmetric_bytes(found: Affine) -> bool:
    """Whether the codes are those of torchao's ``Int8Tensor``."""
    return found.codes.dtype == torch.int8 and found.bits == 8 and found.zero is None


def _intx(found: Affine, block: list[int], dtype: torch.dtype) -> TorchAOBaseTensor | None:
    """``code * scale + zero`` as torchao's ``(code - zero_point) * scale``, with signed codes."""
    codes, scale, zero = found.codes, found.scale, found.zero
    middle = found.lowest + (1 << (found.bits - 1))
    if middle:
        zero = middle * scale + (0.0 if zero is None else zero)
    if zero is None:
        points = torch.zeros_like(scale, dtype=torch.int8)
    elif (scale == 0).any():
        return None
    else:
        points = -zero / scale
    target = getattr(torch, f"int{found.bits}")
    signed = (codes - middle if middle else codes).to(torch.int8)
    return IntxUnpackedToInt8Tensor(signed, scale, points, target, block, dtype, None)


def declared(store: StoredWeight) -> AOBaseConfig:
    """The torchao configuration that makes weights of this format, for config.json.

    Args:
        store: a weight that `torchao_tensor` can convert.
    """
    found = store.affine()
    if found is None:
        raise ValueError(f"{store.title} has no codes with scales to declare")
    if found.codes.is_floating_point():
        return Float8WeightOnlyConfig()
    if store.integer_products:
        return Int8DynamicActivationInt8WeightConfig()
    groups = found.scale.shape[1]
    group = PerGroup(store.columns // groups)
    if _symmetric_bytes(found):
        return Int8WeightOnlyConfig(granularity=PerRow() if groups == 1 else group)
    return IntxWeightOnlyConfig(
        weight_dtype=getattr(torch, f"int{found.bits}"),
        granularity=PerAxis(0) if groups == 1 else group,
    )


def _declare(model: Any, config: AOBaseConfig) -> None:
    """Say in config.json that the checkpoint is torchao's, and which layers are not."""
    floats = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and not isinstance(module.weight, TorchAOBaseTensor)
    ]
    whole = TorchAoConfig(config, modules_to_not_convert=floats or None)
    model.config.quantization_config = whole
    model.hf_quantizer = AutoHfQuantizer.from_config(whole, pre_quantized=True)
