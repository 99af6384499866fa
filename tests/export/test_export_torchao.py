"""Exported torchao tensors, loaded and multiplied by transformers and torchao alone."""

import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from tiny_models import logits, prepared

from zolit.compat import Float8Tensor, Int8Tensor, IntxUnpackedToInt8Tensor
from zolit.export.torchao import save_torchao, torchao_tensor
from zolit.formats.base import StoredWeight
from zolit.formats.bit_planes import BitPlanesWeight
from zolit.formats.codebook import CodebookWeight
from zolit.formats.int4 import Int4Weight
from zolit.formats.int8 import Int8Weight
from zolit.formats.permuted import PermutedWeight
from zolit.strategies import Float8, Int4, Int8, NoQuantizer, Quantizer, SqueezeLLM
from zolit.tensors.weight import PerturbedWeight

FORMATS = [
    (Int8(), Int8Tensor),
    (Int8(32), Int8Tensor),
    (Int4(32), IntxUnpackedToInt8Tensor),
    (Int4(32, symmetric=True), IntxUnpackedToInt8Tensor),
    (Float8(), Float8Tensor),
]


def loaded(folder: Path) -> tuple[nn.Module, dict[str, set[str]]]:
    model, report = hf.AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    return model, {name: report[name] for name in ("missing_keys", "unexpected_keys")}


@pytest.mark.parametrize("name", ["llama", "llama_tied", "opt"])
@pytest.mark.parametrize(("quantizer", "kind"), FORMATS)
def test_loaded_models_read_as_the_tuned_ones(
    name: str, quantizer: Quantizer, kind: type, tmp_path: Path
) -> None:
    model, _, _ = prepared(name, quantizer)
    before = logits(model, name)
    assert save_torchao(model, tmp_path) == []
    again, report = loaded(tmp_path)
    assert not report["missing_keys"] | report["unexpected_keys"]
    linear = [m.weight for m in again.modules() if isinstance(m, nn.Linear)]
    assert sum(isinstance(weight, kind) for weight in linear) == (12 if name == "opt" else 14)
    torch.testing.assert_close(logits(again, name), before, atol=1e-5, rtol=1e-5)
    assert again.config.quantization_config.quant_method == "torchao"


def test_codes_and_scales_are_those_of_the_run(tmp_path: Path) -> None:
    model, _, _ = prepared("llama", Int8())
    path = "model.layers.1.mlp.down_proj.weight"
    store = model.get_parameter(path).store
    codes, scale = store.codes.clone(), store.scale.clone()
    save_torchao(model, tmp_path)
    again = loaded(tmp_path)[0].get_parameter(path)
    assert torch.equal(again.qdata, codes)
    assert torch.equal(again.scale, scale)


def test_bfloat16_keeps_its_dtype_and_the_scales_theirs(tmp_path: Path) -> None:
    model, _, _ = prepared("llama", Int8())
    model.to(torch.bfloat16)
    for module in model.modules():
        for name, weight in module._parameters.items():
            if isinstance(weight, PerturbedWeight) and weight.store.quantized:
                module._parameters[name] = nn.Parameter(
                    weight.with_store(weight.store, torch.bfloat16), False
                )
    before = logits(model, "llama")
    save_torchao(model, tmp_path)
    again, _ = loaded(tmp_path)
    weight = again.get_parameter("model.layers.0.mlp.up_proj.weight")
    assert (again.dtype, weight.dtype) == (torch.bfloat16, torch.bfloat16)
    assert weight.scale.dtype == torch.float32
    torch.testing.assert_close(logits(again, "llama"), before, atol=0.05, rtol=0.02)


def test_int8_activations_are_rounded_in_the_export_too(tmp_path: Path) -> None:
    model, _, _ = prepared("llama", Int8(activations="int8"))
    before = logits(model, "llama")
    assert save_torchao(model, tmp_path) == []
    again, _ = loaded(tmp_path)
    after = logits(again, "llama")
    floats, _, _ = prepared("llama", Int8())
    exact = logits(floats, "llama")
    # Rounded in torchao's way: to 255 steps between the extremes, where zolit has 254.
    error, mine = ((one - exact).abs().mean() for one in (after, before))
    assert 0.5 * mine < error < 2 * mine


def test_float8_activations_are_told(tmp_path: Path) -> None:
    model, _, _ = prepared("llama", Float8(activations="float8"))
    (note,) = save_torchao(model, tmp_path)
    assert "activations are not rounded to float8" in note


def test_floats_alone_are_an_ordinary_checkpoint(tmp_path: Path) -> None:
    model, _, _ = prepared("llama", NoQuantizer())
    before = logits(model, "llama")
    assert save_torchao(model, tmp_path) == []
    again, _ = loaded(tmp_path)
    assert getattr(again.config, "quantization_config", None) is None
    torch.testing.assert_close(logits(again, "llama"), before)


def test_layers_without_a_form_are_decoded_and_told(tmp_path: Path) -> None:
    """GPT-2's transposed layers: torchao multiplies linear layers alone."""
    model, _, _ = prepared("gpt2", Int8())
    before = logits(model, "gpt2")
    (note,) = save_torchao(model, tmp_path)
    assert note == (
        "8 weights (Int8Weight) have no form that torchao loads; they are written as float32"
    )
    again, _ = loaded(tmp_path)
    torch.testing.assert_close(logits(again, "gpt2"), before, atol=1e-5, rtol=1e-5)


def test_one_weight_without_a_form_among_others(tmp_path: Path) -> None:
    model, _, _ = prepared("llama", Int8())
    layer = model.model.layers[0].mlp.up_proj
    store = layer.weight.store
    order = torch.arange(store.columns).flip(0)
    layer.weight = nn.Parameter(layer.weight.with_store(PermutedWeight(store, order)), False)
    before = logits(model, "llama")
    (note,) = save_torchao(model, tmp_path)
    assert note.startswith("1 weights (PermutedWeight of Int8Weight) have no form")
    again, _ = loaded(tmp_path)
    assert type(again.model.layers[0].mlp.up_proj.weight) is nn.Parameter
    assert isinstance(again.model.layers[0].mlp.gate_proj.weight, Int8Tensor)
    torch.testing.assert_close(logits(again, "llama"), before, atol=1e-5, rtol=1e-5)


def random(*shape: int, low: int, high: int) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(low + high))


SCALE, ZERO = 0.1 + torch.rand(4, 2), torch.rand(4, 2) - 0.5


@pytest.mark.parametrize(
    "store",
    [
        BitPlanesWeight.of_codes(random(4, 64, low=0, high=4), 2, SCALE, ZERO),
        BitPlanesWeight.of_codes(random(4, 64, low=0, high=8), 3, SCALE, ZERO),
        Int8Weight(random(4, 64, low=-128, high=128).to(torch.int8), SCALE, ZERO),
        Int4Weight.quantize(torch.randn(4, 64) + 3, 32, symmetric=False),
        BitPlanesWeight.of_codes(random(4, 64, low=0, high=32), 5, SCALE, None),
        BitPlanesWeight.of_codes(random(4, 64, low=0, high=64), 6, SCALE.repeat(1, 2), None),
    ],
    ids=["2 bits", "3 bits", "8 bits", "4 bits", "5 bits, centred", "halves of 6 bits, centred"],
)
def test_zero_points(store: StoredWeight) -> None:
    made = torchao_tensor(store, torch.float32)
    assert isinstance(made, IntxUnpackedToInt8Tensor)
    expected = torch.empty(4, 64)
    store.read(slice(0, 4), [expected], None, "reference")
    torch.testing.assert_close(made.dequantize(), expected, atol=1e-5, rtol=1e-5)


def test_formats_that_torchao_lacks() -> None:
    codes = random(4, 8, 1, low=0, high=100).to(torch.int8)
    book = CodebookWeight(codes, torch.rand(1, 256, 8), SCALE)
    assert torchao_tensor(book, torch.float32) is None
    assert torchao_tensor(SqueezeLLM().store(torch.rand(4, 64), "w"), torch.float32) is None
    flat = Int8Weight(torch.zeros(4, 64, dtype=torch.int8), torch.zeros(4, 1), torch.ones(4, 1))
    assert torchao_tensor(flat, torch.float32) is None
