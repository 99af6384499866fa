"""Load a checkpoint that is quantized already, its linear layers kept as they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from zolit.errors import UserError
from zolit.models.formats.declared import Format, declared_format
from zolit.models.formats.layer import LayerTensors
from zolit.models.formats.weights import layer_weight
from zolit.models.shards import LazyTensor
from zolit.models.source import ModelSource
from zolit.strategies.quantizer.base import Quantizer
from zolit.strategies.quantizer.stored import Stored, StoredLayer
from zolit.tensors.store import StoredWeight
from zolit.tensors.weight import PerturbedWeight

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


@dataclass(frozen=True)
class Contents:
    """A quantized checkpoint, none of its tensors read.

    Attributes:
        quantizer: gives the quantized layers.
        tensors: of the other parameters, and for each quantized layer a stand-in of its shape
            without memory, so that the loader passes by it.
    """

    quantizer: Stored
    tensors: dict[str, LazyTensor]


def take_declared(config: Any, source: ModelSource, quantizer: Quantizer) -> Format | None:
    """The quantized format of a checkpoint, taken out of the model's configuration.

    Args:
        config: transformers configuration; without ``quantization_config`` afterwards.
        source: of the checkpoint.
        quantizer: must be `Stored` for a quantized checkpoint, and may be for no other.

    Returns:
        None if the checkpoint holds floats, or what transformers loads as if it did, or is GGUF.

    Raises:
        UserError: if zolit does not read the format, or the quantizer is not for it.
    """
    origin, name = source.path, type(quantizer).__name__
    if source.gguf_file is not None:
        return None  # its tensors say themselves what they are
    declared = getattr(config, "quantization_config", None)
    if declared is None:
        if isinstance(quantizer, Stored):
            raise UserError(
                f"quantizer Stored keeps the codes of a quantized checkpoint, but the "
                f"config.json of {origin!r} has no quantization_config; use Int8, Int4 or Float8"
            )
        return None
    config_file = str(Path(origin, "config.json"))
    values = declared if isinstance(declared, dict) else declared.to_dict()
    if values.get("quant_method") == "torchao" and not isinstance(quantizer, Stored):
        return None  # transformers reads it, and it is quantized anew
    form = declared_format(values, config_file)
    if not isinstance(quantizer, Stored):
        raise UserError(
            f"quantizer must be Stored for {origin!r}, whose weights are quantized already "
            f"({form}), got {name}; use quantizer Stored, or the float model with {name}"
        )
    del config.quantization_config
    return form


def pickles_refused(origin: str) -> UserError:
    """The error of a quantized checkpoint without safetensors files that zolit can name."""
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


def contents(
    form: Format, skeleton: nn.Module, tensors: Mapping[str, LazyTensor], dtype: torch.dtype
) -> Contents:
    """Sort the tensors of a checkpoint into quantized layers and the rest.

    Args:
        form: what config.json declares.
        skeleton: the model on the meta device.
        tensors: of the checkpoint.
        dtype: of the model's floats.

    Raises:
        UserError: if a quantized layer is not one of the model's linear layers, or none is there.
    """
    mark = form.mark
    modules = {name.removesuffix(f".{mark}") for name in tensors if name.endswith(f".{mark}")}
    if not modules:
        one = next(iter(tensors.values()))
        raise UserError(
            f"model.source: {str(one.file)!r} holds no tensor named *.{mark}, though config.json "
            f"says {form}; give the config.json that belongs to the checkpoint"
        )
    layers: dict[str, StoredLayer] = {}
    rest: dict[str, LazyTensor] = {}
    for name, tensor in tensors.items():
        if name.rpartition(".")[0] not in modules:
            rest[name] = tensor
    for module in sorted(modules):
        parts = {
            name.rpartition(".")[2]: tensor
            for name, tensor in tensors.items()
            if name.rpartition(".")[0] == module
        }
        file = parts[mark].file
        linear = _linear(skeleton, module, str(file))
        layer = LayerTensors(module, str(file), parts, str(form))
        bias = parts.get("bias")
        if bias is not None and _has_bias(linear, layer, bias):
            rest[f"{module}.bias"] = bias
        shape = (linear.out_features, linear.in_features)
        layers[f"{module}.weight"] = StoredLayer(_reader(layer, form, *shape), str(form))
        rest[f"{module}.weight"] = stand_in(f"{module}.weight", file, shape, dtype)
    return Contents(Stored.of(layers), rest)


def _reader(
    layer: LayerTensors, form: Format, rows: int, columns: int
) -> Callable[[], StoredWeight]:
    return lambda: layer_weight(layer, form, rows, columns)


def stand_in(name: str, file: Path, shape: tuple[int, ...], dtype: torch.dtype) -> LazyTensor:
    """A tensor of a shape, without memory."""
    return LazyTensor(name, file, lambda: torch.zeros((), dtype=dtype).expand(shape))


def _linear(skeleton: nn.Module, path: str, file: str) -> nn.Linear:
    try:
        module = skeleton.get_submodule(path)
    except AttributeError:
        module = None
    getter = getattr(skeleton, "get_output_embeddings", None)
    output = None if getter is None else getter()
    if not isinstance(module, nn.Linear) or module is output:
        what = "the output layer" if module is output is not None else "no linear layer"
        raise UserError(
            f"model.source: {file!r} holds a quantized layer {path!r}, which is {what} of the "
            "model that config.json describes; give a checkpoint whose quantized layers are the "
            "linear layers of its blocks"
        )
    return module


def check_kept(model: nn.Module, quantizer: Stored, origin: str) -> None:
    """Refuse a loaded model in which a stand-in stayed where a quantized layer belongs.

    Raises:
        UserError: naming the layer.
    """
    for path in quantizer.layers:
        if not isinstance(model.get_parameter(path), PerturbedWeight):
            raise UserError(
                f"model.source: {path!r} of {origin!r} is quantized, but transformers shares or "
                "converts that weight in this model; use the float model and one of zolit's own "
                "quantizers"
            )


def _has_bias(linear: nn.Linear, layer: LayerTensors, bias: LazyTensor) -> bool:
    """Whether the model has this bias; AutoGPTQ writes zeros where it has none.

    Raises:
        UserError: if the checkpoint has a bias that the model lacks.
    """
    if linear.bias is not None:
        return True
    if bias[:].any():
        raise layer.bad("bias", "is not zero, but the layer has no bias in the model")
    return False
