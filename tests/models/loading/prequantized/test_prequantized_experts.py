"""Quantized experts of a checkpoint, one by one, as the stacks of the model."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_experts import eager, logits, tiny
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.source import ModelSource
from zolit.strategies import ScalePerturber, Stored
from zolit.training.zero_order import ZeroOrderModule

NAMES = ["mixtral", "qwen3_moe"]
DECLARED = {
    "fp8": {"quant_method": "fp8", "weight_block_size": [16, 32]},
    "int8": {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "config_groups": {
            "group_0": {"weights": {"num_bits": 8, "type": "int", "strategy": "channel"}}
        },
    },
}


def quantized(folder: Path, name: str, kind: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """A checkpoint whose linear layers and experts are codes; the float model of its values."""
    model = tiny(name)
    model.save_pretrained(folder)
    tensors: dict[str, Tensor] = {}
    values: dict[str, Tensor] = {}
    for key, value in load_file(folder / "model.safetensors").items():
        values[key] = tensors[key] = value
        if not any(one in key for one in ("proj.weight", ".w1.", ".w2.", ".w3.")):
            continue
        if kind == "fp8":
            cells = value.view(value.shape[0] // 16, 16, -1, 32)
            scale = cells.abs().amax((1, 3)) / 448
            wide = scale.repeat_interleave(16, 0).repeat_interleave(32, 1)
            tensors[key] = (value / wide).to(torch.float8_e4m3fn)
            tensors[f"{key}_scale_inv"] = scale
        else:
            wide = scale = value.abs().amax(1, keepdim=True) / 127
            tensors[key] = (value / wide).round().to(torch.int8)
            tensors[f"{key}_scale"] = scale
        values[key] = tensors[key].float() * wide
    (folder / "floats").mkdir()
    save_file(values, folder / "floats" / "model.safetensors", {"format": "pt"})
    file = folder / "config.json"
    (folder / "floats" / "config.json").write_text(file.read_text())
    config = json.loads(file.read_text()) | {"quantization_config": DECLARED[kind]}
    file.write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    reference = type(eager(name)).from_pretrained(folder / "floats", dtype=torch.float32)
    reference.set_experts_implementation("eager")
    return reference.eval(), tensors


def load(folder: Path) -> ZeroOrderModule:
    one = ZeroOrderModule(
        ModelSource(str(folder)), Stored(), ScalePerturber(), dtype="float32", kernels="reference"
    )
    one.configure_model()
    one.network.eval()
    return one


@pytest.mark.parametrize("kind", DECLARED)
@pytest.mark.parametrize("name", NAMES)
def test_logits_are_those_of_the_decoded_experts(name: str, kind: str, tmp_path: Path) -> None:
    reference, _ = quantized(tmp_path, name, kind)
    one = load(tmp_path)
    torch.testing.assert_close(logits(one.network), logits(reference), rtol=1e-3, atol=1e-4)
    kept = {weight.path: weight.store.describe()["format"] for weight in one.weights}
    form = "Float8Weight" if kind == "fp8" else "Int8Weight"
    assert set(kept.values()) == {form}
    assert sum("experts" in path for path in kept) == 4


def test_a_missing_expert_is_refused(tmp_path: Path) -> None:
    _, tensors = quantized(tmp_path, "qwen3_moe", "fp8")
    for leaf in ("weight", "weight_scale_inv"):
        del tensors[f"model.layers.0.mlp.experts.3.up_proj.{leaf}"]
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"gate_up_proj' are not all quantized alike \(expert 3 of"):
        load(tmp_path)
