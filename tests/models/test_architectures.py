"""Seven architectures: the right layers, the same numbers, pairs that equal two passes."""

import pytest
import torch
from tiny_models import LAYERS, LINEAR, MODELS, batch, logits, prepared, tiny
from torch import nn
from transformers.pytorch_utils import Conv1D

from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import Float8, Int4, Int8, NoQuantizer, Quantizer
from zolit.tensors.weight import PerturbedWeight, perturbed_weights, stored_weights

QUANTIZERS: dict[str, Quantizer] = {"int8": Int8(), "int4": Int4(32), "float8": Float8()}


@pytest.mark.parametrize("name", MODELS)
def test_linear_layers_and_nothing_else(name: str) -> None:
    model, _, pairable = prepared(name, Int8())
    weights = perturbed_weights(model)
    per_block, beside = LINEAR[name]
    assert len(weights) == per_block * LAYERS + beside
    assert [weight.site.index for weight in weights] == list(range(len(weights)))
    assert weights == list(stored_weights(model))
    assert pairable
    output = model.get_output_embeddings()
    original = dict(tiny(name).named_parameters())
    for path, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            full = f"{path}.{key}"
            linear = isinstance(module, nn.Linear | Conv1D) and module is not output
            assert isinstance(parameter, PerturbedWeight) == (linear and key == "weight"), full
            if full in original and not isinstance(parameter, PerturbedWeight):
                assert torch.equal(parameter, original[full])


@pytest.mark.parametrize("name", MODELS)
def test_unquantized_reads_at_rest_change_nothing(name: str) -> None:
    model, _, _ = prepared(name, NoQuantizer())
    got, wanted = logits(model, name), logits(tiny(name), name)
    if name == "gpt2":
        # Its matrices are stored output channels first, so the sums are taken in another order.
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    else:
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_quantized_model_equals_one_of_decoded_weights(name: str, quantizer: str) -> None:
    model, _, _ = prepared(name, QUANTIZERS[quantizer])
    plain = tiny(name)
    original = logits(plain, name)
    parameters = dict(plain.named_parameters())
    for weight in stored_weights(model):
        parameters[weight.path].copy_(weight.dense())
    got = logits(model, name)
    torch.testing.assert_close(got, logits(plain, name), atol=2e-5, rtol=1e-4)
    assert (got - original).abs().max() > 1e-4


@pytest.mark.parametrize("quantizer", ["none", "int8"])
@pytest.mark.parametrize("name", MODELS)
def test_a_pair_equals_two_passes(name: str, quantizer: str) -> None:
    chosen = Int8() if quantizer == "int8" else NoQuantizer()
    tune = ["linear"] if name == "roberta" else ["linear", "output"]
    model, reading, pairable = prepared(name, chosen, tune)
    assert pairable
    objective, one, eps = OptionScoring(), batch(name), 1.4 if chosen.quantized else 0.01
    with torch.no_grad():
        rest = objective.losses(model, one)
        with reading.perturbed(5, eps, 2):
            both = objective.losses(model, one, 2)
        for sign, paired in zip((1, -1), both, strict=True):
            with reading.perturbed(5, sign * eps, 1):
                torch.testing.assert_close(objective.losses(model, one)[0], paired)
        assert (both[0] - both[1]).abs() > 1e-4
        assert torch.equal(objective.losses(model, one), rest)
