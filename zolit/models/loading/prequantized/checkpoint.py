"""Load a checkpoint that is quantized already; its linear layers keep their codes."""

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.models.anatomy import output_layer
from zolit.models.lazy_tensor import LazyTensor
from zolit.models.loading.kept_layers import KeptLayers, StoredLayer
from zolit.models.loading.prequantized.compressed import CompressedFormat
from zolit.models.loading.prequantized.declared_format import Format, declared_format
from zolit.models.loading.prequantized.experts import Stack, find_stacks, stack_stores
from zolit.models.loading.prequantized.fp8 import Fp8Format
from zolit.models.loading.prequantized.gptq import GptqFormat, settle_zeros
from zolit.models.loading.prequantized.layer import LayerTensors
from zolit.models.loading.prequantized.torchao import TorchaoFormat
from zolit.models.loading.prequantized.weights import layer_weight
from zolit.models.parts import StoresWeights
from zolit.models.source import ModelSource
from zolit.tensors.weight import PerturbedWeight

log = logging.getLogger(__name__)

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")

_ROUNDING = {
    "input_scale",
    "input_zero_point",
    "input_scale_ub",
    "activation_scale",
    "output_scale",
    "q_scale",
    "k_scale",
    "v_scale",
}
"""Tensors of a quantized checkpoint that say how activations or the cache are rounded."""


@dataclass(frozen=True)
class Contents:
    """A quantized checkpoint, none of its tensors read.

    Attributes:
        layers: the quantized ones.
        tensors: of the other parameters; and for each quantized layer a stand-in of its shape
            without memory, as the loader expects a tensor there.
    """

    layers: KeptLayers
    tensors: dict[str, LazyTensor]


def take_declared(config: Any, source: ModelSource, quantizer: StoresWeights) -> Format | None:
    """The quantized format of a checkpoint; it is removed from the model's configuration.

    Args:
        config: transformers configuration; without ``quantization_config`` afterwards.
        source: of the checkpoint.
        quantizer: must keep codes (`Stored`) for a quantized checkpoint, and for no other.

    Returns:
        None if the checkpoint holds floats, is a GGUF file, or is one that transformers decodes to
        floats.

    Raises:
        UserError: if zolit does not read the format, or the quantizer does not fit it.
    """
    origin, name = source.path, type(quantizer).__name__
    if source.gguf_file is not None:
        return None  # the file itself gives the format of each tensor
    declared = getattr(config, "quantization_config", None)
    if declared is None:
        if not quantizer.converts:
            raise UserError(
                f"quantizer Stored keeps the codes of a quantized checkpoint, but the "
                f"config.json of {origin!r} has no quantization_config; use Int8, Int4 or Float8"
            )
        return None
    config_file = str(Path(origin, "config.json"))
    values = declared if isinstance(declared, dict) else declared.to_dict()
    if values.get("quant_method") == "torchao" and quantizer.converts:
        return None  # transformers decodes it, and zolit quantizes it anew
    form = declared_format(values, config_file)
    if quantizer.converts:
        raise UserError(
            f"quantizer must be Stored for {origin!r}, whose weights are quantized already "
            f"({form}), got {name}; use quantizer Stored, or the float model with {name}"
        )
    del config.quantization_config
    return form


def pickles_refused(origin: str) -> UserError:
    """The error for a quantized checkpoint without safetensors files of the usual names."""
    folder = Path(origin)
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    other = [name for name in names if name.endswith(".safetensors")]
    if other:
        return UserError(
            f"model.source: {origin!r} holds {other[0]!r} but no model.safetensors, the name that "
            "transformers gives a checkpoint; rename the file"
        )
    pickled = [name for name in names if name.endswith(_PICKLES)]
    what = f"holds {pickled[0]!r}, a pickle, which may run code" if pickled else "holds no weights"
    return UserError(
        f"model.source: {origin!r} {what}; give safetensors: torch.load(file, weights_only=True), "
        "then safetensors.torch.save_file to model.safetensors"
    )


def sort_tensors(
    form: Format, skeleton: nn.Module, tensors: Mapping[str, LazyTensor], dtype: torch.dtype
) -> Contents:
    """Sort the tensors of a checkpoint into quantized layers and the rest.

    Args:
        form: what config.json declares.
        skeleton: the model on the meta device.
        tensors: of the checkpoint.
        dtype: of the model's floats.

    Raises:
        UserError: if a quantized layer is not one of the model's linear layers, has a tensor that
            its format does not know, or if there are no quantized layers.
    """
    by_module: dict[str, dict[str, LazyTensor]] = defaultdict(dict)
    for name, tensor in tensors.items():
        module, _, leaf = name.rpartition(".")
        by_module[module][leaf] = tensor
    quantized = {
        module: parts
        for module, parts in sorted(by_module.items())
        if not parts.keys().isdisjoint(form.marks)
    }
    if not quantized:
        one = next(iter(tensors.values()))
        raise UserError(
            f"model.source: {str(one.file)!r} holds no tensor named *.{form.marks[0]}, though "
            f"config.json says {form}; give the config.json that belongs to the checkpoint"
        )
    if isinstance(form, TorchaoFormat):
        any_points = any("_weight_zero_point" in parts for parts in quantized.values())
        form = replace(form, zero_points=any_points)
    rounding = _rounding(form, tensors)
    layers: dict[str, StoredLayer] = {}
    rest: dict[str, LazyTensor] = {
        name: tensor
        for name, tensor in tensors.items()
        if name.rpartition(".")[0] not in quantized and name not in rounding
    }
    stacks = find_stacks(skeleton, quantized)
    shapes = {one: (s.rows, s.columns) for s in stacks.values() for one in s.modules}
    readers: dict[str, Callable[[], StoredWeight]] = {}
    for module, parts in quantized.items():
        file = next(parts[mark].file for mark in form.marks if mark in parts)
        linear = None if module in shapes else _linear(skeleton, module, str(file))
        own = {leaf: one for leaf, one in parts.items() if f"{module}.{leaf}" not in rounding}
        layer = LayerTensors(module, str(file), own, str(form))
        for leaf in sorted(own.keys() - form.parts):
            raise layer.bad(leaf, f"lies beside the codes of the layer, but {form} has no such")
        bias = parts.get("bias")
        if bias is not None and _has_bias(linear, layer, bias):
            rest[f"{module}.bias"] = bias
        shape = (linear.out_features, linear.in_features) if linear else shapes[module]
        if not readers and isinstance(form, GptqFormat):
            form = _settled(form, layer, shape[0])
        readers[module] = _reader(layer, form, *shape)
        if linear is not None:
            layers[f"{module}.weight"] = StoredLayer(readers[module], str(form))
            rest[f"{module}.weight"] = make_stand_in(f"{module}.weight", file, shape, dtype)
    for name, stack in stacks.items():
        file = next(iter(quantized[stack.modules[0]].values())).file
        layers[name] = StoredLayer(_stacker(name, stack, readers), str(form))
        rest[name] = make_stand_in(name, file, tuple(skeleton.get_parameter(name).shape), dtype)
    if isinstance(form, Fp8Format | CompressedFormat):
        _tell_rounding(form.activations, rounding)
    return Contents(KeptLayers(layers), rest)


def _rounding(form: Format, tensors: Mapping[str, LazyTensor]) -> set[str]:
    """Names of tensors that are for rounding activations or the cache, not for weights."""
    if not isinstance(form, Fp8Format | CompressedFormat):
        return set()
    return {name for name in tensors if name.rpartition(".")[2] in _ROUNDING}


def _tell_rounding(declared: str | None, names: set[str]) -> None:
    found = [] if declared is None else [f"config.json declares {declared}"]
    if names:
        found.append(f"the checkpoint holds {len(names)} tensors such as {min(names)}")
    if found:
        log.warning("activations stay floats, as only weights are read: %s", ", ".join(found))


def _settled(form: GptqFormat, layer: LayerTensors, rows: int) -> GptqFormat:
    """The format with the convention of zero points that a symmetric checkpoint's data show."""
    found = settle_zeros(layer, form, rows)
    if found != form:
        log.warning(
            "zero points are taken for %s: sym=true and the data ask for that, though the "
            "checkpoint_format of config.json says the other",
            "one more than stored (gptq)" if found.zeros_less_one else "what is stored (gptq_v2)",
        )
    return found


def _reader(
    layer: LayerTensors, form: Format, rows: int, columns: int
) -> Callable[[], StoredWeight]:
    return lambda: layer_weight(layer, form, rows, columns)


def _stacker(
    name: str, stack: Stack, readers: Mapping[str, Callable[[], StoredWeight]]
) -> Callable[[], StoredWeight]:
    return lambda: stack_stores([readers[module]() for module in stack.modules], name)


def make_stand_in(name: str, file: Path, shape: tuple[int, ...], dtype: torch.dtype) -> LazyTensor:
    """A lazy tensor of a shape that takes no memory."""
    return LazyTensor(name, file, lambda: torch.zeros((), dtype=dtype).expand(shape))


def _linear(skeleton: nn.Module, path: str, file: str) -> nn.Linear:
    try:
        module = skeleton.get_submodule(path)
    except AttributeError:
        module = None
    output = output_layer(skeleton)
    if not isinstance(module, nn.Linear) or module is output:
        what = "the output layer" if module is output is not None else "no linear layer"
        raise UserError(
            f"model.source: {file!r} holds a quantized layer {path!r}, which is {what} of the "
            "model that config.json describes; give a checkpoint whose quantized layers are the "
            "linear layers of its blocks"
        )
    return module


def check_kept(model: nn.Module, kept: KeptLayers, origin: str) -> None:
    """Refuse a loaded model in which a stand-in was not replaced by its quantized layer.

    Raises:
        UserError: naming the layer.
    """
    for path in kept.layers:
        if not isinstance(model.get_parameter(path), PerturbedWeight):
            raise UserError(
                f"model.source: {path!r} of {origin!r} is quantized, but transformers shares or "
                "converts that weight in this model; use the float model and one of zolit's own "
                "quantizers"
            )


def _has_bias(linear: nn.Linear | None, layer: LayerTensors, bias: LazyTensor) -> bool:
    """Whether the model has this bias; AutoGPTQ writes zeros where it has none.

    Raises:
        UserError: if the checkpoint has a bias that the model lacks.
    """
    if linear is not None and linear.bias is not None:
        return True
    if bias[:].any():
        raise layer.bad("bias", "is not zero, but the layer has no bias in the model")
    return False
