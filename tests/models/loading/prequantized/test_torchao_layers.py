"""Checkpoints that transformers wrote with torchao: kept by `Stored`, equal to its own loader's."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from quantized_folders import float_model
from safetensors.torch import load_file, save_file
from test_prequantized import load, logits, step, tensors
from torch import nn
from torchao.prototype.safetensors.safetensors_support import flatten_tensor_state_dict
from torchao.quantization import (
    Float8WeightOnlyConfig,
    Int4Tensor,
    Int4WeightOnlyConfig,
    Int8DynamicActivationInt8WeightConfig,
    Int8WeightOnlyConfig,
    IntxWeightOnlyConfig,
)

from zolit.compat import MappingType, PerGroup, PerRow
from zolit.errors import UserError
from zolit.formats.int4 import Int4Weight
from zolit.tensors.weight import stored_weights

ASYMMETRIC = MappingType.ASYMMETRIC
CONFIGS: dict[str, tuple[Any, str]] = {
    "int8": (Int8WeightOnlyConfig(version=2), "Int8Weight"),
    "int8, groups": (Int8WeightOnlyConfig(version=2, granularity=PerGroup(32)), "Int8Weight"),
    "float8": (Float8WeightOnlyConfig(granularity=PerRow()), "Float8Weight"),
    "4 bits unpacked": (IntxWeightOnlyConfig(torch.int4, PerGroup(32)), "Int4Weight"),
    "4 bits, zero points": (
        IntxWeightOnlyConfig(torch.int4, PerGroup(32), mapping_type=ASYMMETRIC),
        "Int4Weight",
    ),
    "8 bits, zero points": (
        IntxWeightOnlyConfig(torch.int8, PerGroup(32), mapping_type=ASYMMETRIC),
        "Int8ZeroWeight",
    ),
}


def write(folder: Path, config: Any) -> nn.Module:
    """A checkpoint of transformers; returns its float model."""
    model = float_model()
    model.save_pretrained(folder / "floats")
    made = hf.AutoModelForCausalLM.from_pretrained(
        folder / "floats", quantization_config=hf.TorchAoConfig(config), dtype=torch.float32
    )
    made.save_pretrained(folder)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_are_those_of_transformers_own_loader(name: str, tmp_path: Path) -> None:
    config, form = CONFIGS[name]
    floats = write(tmp_path, config)
    theirs = hf.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    one = load(tmp_path)
    found = list(stored_weights(one.network))
    assert len(found) == 14
    assert {weight.store.describe()["format"] for weight in found} == {form}
    for weight in found:
        loaded = theirs.get_parameter(weight.path)
        assert type(loaded.data).__module__.startswith("torchao")
        torch.testing.assert_close(weight.dense(), loaded.data.dequantize(), rtol=1e-6, atol=1e-7)
        floats.get_parameter(weight.path).data.copy_(loaded.data.dequantize())
    torch.testing.assert_close(logits(one.network), logits(floats), rtol=1e-4, atol=1e-5)


def as_torchao(store: Int4Weight) -> Int4Tensor:
    """The packing of `mslk.quantize.shuffle.pack_int4`, which torchao calls: even columns low."""
    even, odd = store.codes().view(store.rows, -1, 2).unbind(2)
    scale, zero = (t.to(torch.bfloat16).t().contiguous() for t in (store.scale, store.zeros()))
    block, shape = [1, store.columns // store.groups], torch.Size((store.rows, store.columns))
    return Int4Tensor((odd << 4) | (even & 0xF), scale, zero, block, shape)


def test_int4_packed_as_torchao_packs_it(tmp_path: Path) -> None:
    """Quantized here, as torchao's own quantizer needs mslk; unpacked here by arithmetic."""
    model = float_model()
    expected, state = {}, dict(model.state_dict())
    for path, module in model.model.named_modules():
        if isinstance(module, nn.Linear):
            made = Int4Weight.quantize(module.weight, 32, symmetric=False)
            packed = as_torchao(made)
            state[f"model.{path}.weight"] = packed
            byte = packed.qdata.int()
            codes = torch.stack(((byte & 15) ^ 8, ((byte >> 4) & 15) ^ 8), dim=2).flatten(1) - 8
            parts = [
                t.float().t().repeat_interleave(32, 1) for t in (packed.scale, packed.zero_point)
            ]
            expected[f"model.{path}.weight"] = codes * parts[0] + parts[1]
    flat, metadata = flatten_tensor_state_dict(state)
    save_file(
        {name: tensor.contiguous() for name, tensor in flat.items()},
        tmp_path / "model.safetensors",
        metadata=metadata,
    )
    kinds = hf.TorchAoConfig(Int4WeightOnlyConfig(group_size=32)).to_dict()
    config = {**model.config.to_dict(), "quantization_config": kinds}
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    found = {weight.path: weight for weight in stored_weights(load(tmp_path).network)}
    assert found.keys() == expected.keys()
    for path, weight in found.items():
        assert isinstance(weight.store, Int4Weight)
        torch.testing.assert_close(weight.dense(), expected[path], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["int8", "float8", "4 bits, zero points"])
def test_scales_are_tuned_and_saved_alone(name: str, tmp_path: Path) -> None:
    write(tmp_path, CONFIGS[name][0])
    one, other = load(tmp_path), load(tmp_path)
    start = tensors(one)
    step(one, 0)
    moved = {key for key, tensor in tensors(one).items() if not torch.equal(tensor, start[key])}
    assert moved == one.state_dict().keys()
    assert all(key.endswith(("scale", "zero")) for key in moved)
    other.load_state_dict(one.state_dict())
    assert all(torch.equal(t, tensors(other)[key]) for key, t in tensors(one).items())


Change = Callable[[dict[str, torch.Tensor]], Any]
FIRST = "model.layers.0.mlp.up_proj"


def drop(name: str) -> Change:
    return lambda contents: contents.pop(f"{FIRST}.{name}")


def put(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    return lambda contents: contents.update(
        {f"{FIRST}.{name}": change(contents[f"{FIRST}.{name}"])}
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop("_weight_scale"), "holds no tensor '.*up_proj._weight_scale'"),
        (drop("_weight_zero_point"), "holds no tensor '.*up_proj._weight_zero_point'"),
        (put("_weight_qdata", lambda t: t[1:]), r"_weight_qdata' of .* is \[127, 64\] int8, but"),
        (put("_weight_qdata", lambda t: t.short()), r"is \[128, 64\] int16, but .* int8"),
        (put("_weight_scale", lambda t: t[:1]), r"_weight_scale' of .* is \[1, 1\], which fits no"),
        (put("_weight_scale", lambda t: t * 0), "_weight_scale' of .* scales that are zero"),
        (put("_weight_scale", lambda t: t / 0), r"_weight_scale' of .* infinite \(inf\)"),
        (put("_weight_scale", lambda t: t.flatten()), "makes it a matrix of float16"),
        (put("_weight_zero_point", lambda t: t + torch.nan), "_weight_zero_point' of .* NaN"),
    ],
)
def test_damaged_layers_are_refused_in_a_sentence(
    change: Change, message: str, tmp_path: Path
) -> None:
    write(tmp_path, CONFIGS["int8"][0])
    file = tmp_path / "model.safetensors"
    contents = load_file(file)
    change(contents)
    save_file({name: tensor.contiguous() for name, tensor in contents.items()}, file)
    with pytest.raises(UserError, match=message) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_groups_that_are_no_words_are_refused(tmp_path: Path) -> None:
    write(tmp_path, Int8WeightOnlyConfig(version=2, granularity=PerGroup(16)))
    with pytest.raises(UserError, match="groups of 16 columns, but zolit holds multiples of 32"):
        load(tmp_path)


def test_rounded_activations_are_refused(tmp_path: Path) -> None:
    write(tmp_path, Int8DynamicActivationInt8WeightConfig(version=2))
    with pytest.raises(UserError, match=r"quant_type='Int8DynamicActivationInt8WeightConfig', exp"):
        load(tmp_path)
