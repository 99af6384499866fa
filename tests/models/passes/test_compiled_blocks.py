"""Compiled blocks: the same numbers in every architecture, whatever the weights read as."""

import copy

import pytest
import torch
from tiny_models import LAYERS, LINEAR, MODELS, batch, logits, prepared
from torch import nn

from zolit.errors import UserError
from zolit.models.passes.compiled_blocks import StoredLinear, compile_blocks
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import Int8, ScalePerturber
from zolit.tensors.weight import perturbed_weights

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in MODELS if name != "llama"]


@pytest.mark.parametrize("name", ["llama", *SLOW])
def test_same_numbers_at_rest_and_in_pairs(name: str) -> None:
    plain, reading, _ = prepared(name, Int8(), kernels="compiled")
    model, mine, _ = prepared(name, Int8(), kernels="compiled")
    paths = [weight.path for weight in perturbed_weights(model)]
    assert compile_blocks(model) == LAYERS
    layers = [module for module in model.modules() if isinstance(module, StoredLinear)]
    assert len(layers) == LINEAR[name][0] * LAYERS
    assert [weight.path for weight in perturbed_weights(model)] == paths
    assert set(paths) <= {path for path, _ in model.named_parameters()}
    torch.testing.assert_close(logits(model, name), logits(plain, name), atol=2e-5, rtol=1e-4)
    objective, one = OptionScoring(), batch(name)
    with torch.no_grad():
        for key in (5, 6):
            with reading.perturbed(key, 1.4, 2), mine.perturbed(key, 1.4, 2):
                expected = objective.losses(plain, one, 2)
                got = objective.losses(model, one, 2)
            assert (expected[0] - expected[1]).abs() > 1e-4
            torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_a_copy_has_weights_of_its_own() -> None:
    model, _, _ = prepared("llama", Int8(), kernels="compiled")
    compile_blocks(model)
    layer = next(module for module in model.modules() if isinstance(module, StoredLinear))
    twin, x = copy.deepcopy(layer), torch.ones(1, 32)
    before = layer(x)
    twin.weight.store.scale.mul_(2)
    assert torch.equal(layer(x), before)
    torch.testing.assert_close(twin(x), 2 * before)


def test_blocks_with_tuned_norms_are_left_alone() -> None:
    with pytest.raises(UserError, match="compile: got blocks, but LlamaForCausalLM has no list"):
        compile_blocks(prepared("llama", Int8(), ["linear", "norms"])[0])
    with pytest.raises(UserError, match="use compile: none"):
        compile_blocks(nn.Linear(2, 2))


def test_scales_too() -> None:
    perturber = ScalePerturber(0.1)
    plain, reading, _ = prepared("llama", Int8(), perturber=perturber, kernels="compiled")
    model, mine, _ = prepared("llama", Int8(), perturber=perturber, kernels="compiled")
    compile_blocks(model)
    objective, one = OptionScoring(), batch("llama")
    with torch.no_grad(), reading.perturbed(3, 0.1, 2), mine.perturbed(3, 0.1, 2):
        expected = objective.losses(plain, one, 2)
        torch.testing.assert_close(objective.losses(model, one, 2), expected, atol=2e-5, rtol=1e-4)
