"""LoRA beside stored weights: PEFT's numbers, its start, and what it is refused for."""

import copy
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy_noise
import peft
import pytest
import torch
from peft import LoraConfig
from preparing import prepare
from quantized_folders import quantized_llama
from tiny_models import MODELS, batch, logits, tiny
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.adapters import LoRA
from zolit.models.adapters.base import adapted, merge
from zolit.models.passes.compiled_blocks import StoredLinear, compile_blocks
from zolit.models.source import ModelSource
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import (
    DensePerturber,
    Float8,
    Int4,
    Int8,
    NoQuantizer,
    Quantizer,
    ScalePerturber,
    Stored,
)
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight, perturbed_weights
from zolit.training.zero_order import ZeroOrderModule

TARGETS = {"gpt2": ["c_attn", "mlp.c_fc"], "roberta": ["query", "value"]}
FACTORS = 8  # two factors of two targets in two layers


def with_lora(
    name: str = "llama",
    quantizer: Quantizer | None = None,
    tune: list[str] | None = None,
    kernels: Any = "reference",
    **options: Any,
) -> tuple[nn.Module, Reading]:
    """A prepared model with adapters whose B is not zero any more."""
    model, perturber = tiny(name), ScalePerturber()
    reading = Reading(perturber.direction(), kernels)
    given = {"rank": 4, "alpha": 12.0, "targets": TARGETS.get(name)} | options
    tune = tune or ["adapter"]
    assert prepare(model, quantizer or Int8(), perturber, reading, tune, LoRA(**given))
    fill(model)
    return model, reading


def fill(model: nn.Module) -> None:
    """Random B, by the name of its layer."""
    for index, (_, _, adapter) in enumerate(adapted(model)):
        weight = adapter.lora_B.weight
        plain = weight.store.weight if isinstance(weight, PerturbedWeight) else weight
        plain.normal_(0, 0.3, generator=torch.Generator().manual_seed(index))


def factor(adapter: nn.Module, name: str) -> Tensor:
    weight = getattr(adapter, name).weight
    return weight.dense() if isinstance(weight, PerturbedWeight) else weight.detach()


def peft_twin(model: nn.Module, name: str) -> nn.Module:
    """PEFT's own model: the floats that the weights read as, and the same factors."""
    base = tiny(name)
    for path, weight in base.named_parameters():
        mine = model.get_parameter(path)
        weight.copy_(mine.dense() if isinstance(mine, PerturbedWeight) else mine)
    targets = TARGETS.get(name, ["q_proj", "v_proj"])
    config = LoraConfig(r=4, lora_alpha=12, target_modules=targets, fan_in_fan_out=name == "gpt2")
    return same_factors(peft.get_peft_model(base, config), model)


def same_factors(twin: nn.Module, model: nn.Module) -> nn.Module:
    """PEFT's model with the factors of ours."""
    for path, _, adapter in adapted(model):
        layer = twin.get_submodule(f"base_model.model.{path}")
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(factor(adapter, "lora_A"))
            layer.lora_B["default"].weight.copy_(factor(adapter, "lora_B"))
    return twin.eval()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("quantizer", [Int4(32), NoQuantizer()], ids=["Int4", "NoQuantizer"])
def test_at_rest_it_is_pefts_forward(name: str, quantizer: Quantizer) -> None:
    model, _ = with_lora(name, quantizer)
    assert len(perturbed_weights(model)) == FACTORS
    got = logits(model, name)
    torch.testing.assert_close(got, logits(peft_twin(model, name), name), atol=2e-5, rtol=1e-4)
    bare = tiny(name)
    prepare(bare, quantizer, ScalePerturber(), Reading(), [])
    assert (got - logits(bare, name)).abs().max() > 1e-2
    merge(model)
    assert not list(adapted(model))
    torch.testing.assert_close(logits(model, name), got, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_a_pair_reads_what_two_passes_read(name: str) -> None:
    model, reading = with_lora(name, tune=["adapter", "linear"])
    objective, one = OptionScoring(), batch(name)
    with torch.no_grad():
        with reading.perturbed(3, 0.05, 2):
            pair = objective.losses(model, one, 2)
        apart = []
        for eps in (0.05, -0.05):
            with reading.perturbed(3, eps, 1):
                apart.append(objective.losses(model, one, 1))
    assert (pair[0] - pair[1]).abs() > 1e-3
    torch.testing.assert_close(pair, torch.cat(apart), atol=1e-5, rtol=1e-4)


def test_a_perturbed_read_moves_both_factors() -> None:
    """One layer, its factors moved by hand in float64."""
    model, reading = with_lora()
    layer = model.get_submodule("model.layers.0.self_attn.q_proj")
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(5))
    before = layer.weight.dense()
    moved = []
    for weight in (layer.adapter.lora_A.weight, layer.adapter.lora_B.weight):
        rest = weight.dense()
        with reading.perturbed(9, 0.1, 1):
            read = weight.dense()
        rows, columns = rest.shape
        z = numpy_noise.direction(rows, 32, 9, weight.site.index)[:, :columns]  # padded to a word
        z = torch.from_numpy(z).float()
        torch.testing.assert_close(read, rest + 0.1 * z, atol=1e-5, rtol=1e-5)
        moved.append(read.double())
    with torch.no_grad(), reading.perturbed(9, 0.1, 1):
        got = layer(x)
    a, b = moved
    expected = x.double() @ before.double().T + 3.0 * (x.double() @ a.T) @ b.T
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "quantizer", [Int8(), Int4(32), Float8(), NoQuantizer()], ids=lambda one: type(one).__name__
)
def test_it_starts_from_the_model(quantizer: Quantizer) -> None:
    model, bare = tiny("llama"), tiny("llama")
    state = torch.get_rng_state()
    prepare(model, quantizer, ScalePerturber(), Reading(), ["adapter"], LoRA(rank=4, seed=7))
    assert torch.equal(torch.get_rng_state(), state)
    prepare(bare, quantizer, ScalePerturber(), Reading(), [])
    assert torch.equal(logits(model, "llama"), logits(bare, "llama"))
    starts = []
    for path, _, adapter in adapted(model):
        a = factor(adapter, "lora_A")
        assert a.shape == (4, 32)
        assert not factor(adapter, "lora_B").any()
        starts.append(a)
        name = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest())
        u = numpy_noise.uniform(np.arange(128), numpy_noise.fold(7, name)).astype(np.float64)
        expected = torch.from_numpy((2 * u - 1) / math.sqrt(32)).float().view(4, 32)
        torch.testing.assert_close(a, expected, atol=1e-7, rtol=1e-6)
    assert not torch.equal(starts[0], starts[1])


def test_the_start_of_a_layer_does_not_depend_on_the_others() -> None:
    alone = tiny("llama")
    LoRA(rank=4, targets=["model.layers.1.self_attn.v_proj"]).attach(alone)
    every = tiny("llama")
    LoRA(rank=4, targets=["model.layers.?.self_attn.*_proj"]).attach(every)
    found = {path: adapter for path, _, adapter in adapted(every)}
    assert len(found) == 8
    [(path, _, adapter)] = adapted(alone)
    assert torch.equal(factor(found[path], "lora_A"), factor(adapter, "lora_A"))


@pytest.mark.parametrize(
    ("dtype", "wanted"), [("float32", torch.float32), ("model", torch.bfloat16)]
)
def test_dtypes(dtype: Any, wanted: torch.dtype) -> None:
    model = tiny("llama").bfloat16()
    reading = Reading(ScalePerturber().direction(), "reference")
    prepare(model, Int8(), ScalePerturber(), reading, ["adapter"], LoRA(rank=2, dtype=dtype))
    fill(model)
    assert {weight.store.weight.dtype for weight in perturbed_weights(model)} == {wanted}
    at_rest = logits(model, "llama")
    assert at_rest.dtype == torch.bfloat16
    with torch.no_grad(), reading.perturbed(3, 0.05, 2):
        losses = OptionScoring().losses(model, batch("llama"), 2)
    assert losses.isfinite().all()
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    "quantizer",
    [Int8(), pytest.param(NoQuantizer(), marks=pytest.mark.slow)],
    ids=lambda one: type(one).__name__,
)
def test_compiled_blocks(quantizer: Quantizer) -> None:
    plain, reading = with_lora(quantizer=quantizer, kernels="compiled")
    model, mine = with_lora(quantizer=quantizer, kernels="compiled")
    paths = [weight.path for weight in perturbed_weights(model)]
    compile_blocks(model)
    assert sum(isinstance(m, StoredLinear) for m in model.modules()) >= FACTORS
    assert [weight.path for weight in perturbed_weights(model)] == paths
    torch.testing.assert_close(logits(model, "llama"), logits(plain, "llama"), atol=2e-5, rtol=1e-4)
    objective, one = OptionScoring(), batch("llama")
    for key in (5, 6):
        with torch.no_grad(), reading.perturbed(key, 0.1, 2), mine.perturbed(key, 0.1, 2):
            expected, got = (objective.losses(m, one, 2) for m in (plain, model))
        assert (expected[0] - expected[1]).abs() > 1e-4
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_compiled_blocks_with_and_without_adapters() -> None:
    """The blocks of a model share code; one with an adapter must not get that of one without."""
    last = [f"model.layers.1.self_attn.{name}" for name in ("q_proj", "v_proj")]
    plain, _ = with_lora(targets=last, kernels="compiled")
    model, _ = with_lora(targets=last, kernels="compiled")
    compile_blocks(model)
    twin = copy.deepcopy(model)
    expected = logits(plain, "llama")
    torch.testing.assert_close(logits(model, "llama"), expected, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(logits(twin, "llama"), expected, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gptq", "aqlm"])
def test_beside_weights_of_a_quantized_checkpoint(kind: str, tmp_path: Path) -> None:
    """Kept as they are on disk; the floats of the decoded weights under PEFT are the reference."""
    base, _ = quantized_llama(tmp_path, {"gptq": "4 bits", "aqlm": "1x16"}[kind])
    one = ZeroOrderModule(
        ModelSource(str(tmp_path)),
        Stored(),
        DensePerturber(),
        adapter=LoRA(4, 12.0),
        dtype="float32",
        kernels="reference",
    )
    one.configure_model()
    fill(one.network)
    assert len(one.weights) == FACTORS
    config = LoraConfig(r=4, lora_alpha=12, target_modules=["q_proj", "v_proj"])
    twin = same_factors(peft.get_peft_model(base, config), one.network)
    got, expected = (logits(model, "llama") for model in (one.network, twin))
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=1e-4)


def test_a_copy_has_factors_of_its_own() -> None:
    model, _ = with_lora()
    twin = copy.deepcopy(model)
    before = logits(model, "llama")
    for weight in perturbed_weights(twin):
        weight.store.weight.zero_()
    assert torch.equal(logits(model, "llama"), before)
    assert not torch.equal(logits(twin, "llama"), before)


REFUSED = {
    "targets that match nothing": ({"targets": ["q_proj", "query"]}, "'query' names no linear"),
    "the output layer": ({"targets": ["lm_head"]}, "'lm_head' names no linear layer"),
    "no targets": ({"targets": []}, "got an empty list"),
    "rank 0": ({"rank": 0}, "adapter.rank must be at least 1, got 0"),
    "rank above the weight's": (
        {"rank": 17},
        "got 17, but model.layers.0.self_attn.v_proj is 16 x 32; expected at most 16",
    ),
    "alpha": ({"alpha": 0.0}, "adapter.alpha must be a positive number, got 0.0"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    options, said = REFUSED[case]
    with pytest.raises(UserError, match="adapter") as refusal:
        LoRA(**options).attach(tiny("llama"))
    assert said in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_model_with_an_adapter_is_refused() -> None:
    model, _ = with_lora()
    for has_one in (
        model,
        peft.get_peft_model(tiny("llama"), LoraConfig(target_modules=["q_proj"])),
    ):
        with pytest.raises(UserError, match="has an adapter already"):
            LoRA().attach(has_one)
