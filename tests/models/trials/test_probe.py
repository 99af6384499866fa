"""Weights that no forward reads: found without numbers, left alone, told in a line."""

import logging
from functools import cache
from pathlib import Path

import pytest
import torch
import transformers as hf
from preparing import prepare
from tiny_models import MODELS, prepared, tiny
from torch import nn
from transformers import AutoModelForCausalLM
from type_configs import build

from zolit.errors import UserError
from zolit.memory.batches import Batches, prompts
from zolit.memory.estimate import estimate_memory
from zolit.models.adapters import LoRA
from zolit.models.loading.open import open_checkpoint
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource
from zolit.models.trials.probe import Forward, find_touched
from zolit.models.trials.stand_ins import make_blank
from zolit.objectives.base import Objective
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import DensePerturber, Int8, NoQuantizer, ScalePerturber
from zolit.tensors.reading import Reading
from zolit.tensors.weight import perturbed_weights, stored_weights
from zolit.training.zero_order import ZeroOrderModule

TYPES = {
    "gemma3": "causal",  # a vision tower
    "bart": "causal",  # attention to an encoder that is not there
    "longformer": "masked",  # global attention
    "big_bird": "masked",  # a pooler, whose output nobody takes
    "mixtral": "causal",  # experts
}
FORWARD = OptionScoring().rehearsal()


def read_parameters(model: nn.Module, forward: Forward = FORWARD) -> frozenset[str] | None:
    touched = find_touched(model, forward)
    return None if touched is None else touched.read


@cache
def made(model_type: str) -> nn.Module:
    return build(model_type, TYPES[model_type])


def differentiated(model: nn.Module) -> set[str]:
    """Names of the parameters that the logits have a gradient of: what they depend on."""
    model.requires_grad_(True)
    ids = 5 + torch.arange(12).unsqueeze(0)
    with torch.enable_grad():
        model(input_ids=ids).logits.pow(2).sum().backward()
    model.requires_grad_(False)
    return {name for name, parameter in model.named_parameters() if parameter.grad is not None}


@pytest.fixture
def gemma(tmp_path: Path) -> Path:
    """Folder of a tiny Gemma 3 with its vision tower."""
    made("gemma3").save_pretrained(tmp_path)
    return tmp_path


def module(path: Path, objective: Objective | None = None, **options: object) -> ZeroOrderModule:
    source = ModelSource(str(path))
    one = ZeroOrderModule(
        source, Int8(), ScalePerturber(), objective=objective, kernels="reference", **options
    )
    one.configure_model()
    return one


@pytest.mark.parametrize("model_type", TYPES)
def test_what_is_read_is_what_the_logits_depend_on(model_type: str) -> None:
    model = made(model_type)
    assert read_parameters(model) == differentiated(model)


@pytest.mark.parametrize("name", MODELS)
def test_every_weight_of_a_language_model_is_read(name: str) -> None:
    model = tiny(name)
    assert read_parameters(model) == {path for path, _ in model.named_parameters()}


def test_a_shape_is_no_number() -> None:
    # Without its CUDA kernel, MRA's attention gives zeros in the shape of the queries.
    read = read_parameters(build("mra", "masked"))
    assert read is not None
    assert any(".output.dense.weight" in name for name in read)
    assert not [name for name in read if ".self.query" in name]


@pytest.mark.parametrize("model_type", TYPES)
def test_the_meta_device_gives_the_same_answer(model_type: str) -> None:
    model = made(model_type)
    with torch.device("meta"):
        skeleton = type(model)(model.config)
    assert read_parameters(skeleton) == read_parameters(model)


def test_a_blank_copy_takes_no_memory_and_changes_nothing() -> None:
    model = tiny("llama")
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    copy = make_blank(model).model
    storages = {p.untyped_storage().nbytes() for p in copy.parameters()}
    assert storages == {4}
    read_parameters(model)
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())


def test_stored_weights_are_asked_as_plain_ones_are() -> None:
    model = prepared("llama", Int8())[0]
    assert read_parameters(model) == read_parameters(tiny("llama"))


def rwkv(rescale_every: int) -> nn.Module:
    torch.manual_seed(0)
    config = hf.RwkvConfig(
        vocab_size=96,
        context_length=32,
        hidden_size=32,
        attention_hidden_size=32,
        num_hidden_layers=2,
        rescale_every=rescale_every,
    )
    return hf.RwkvForCausalLM(config).eval().requires_grad_(False)


def test_a_model_that_changes_its_weights_is_refused_when_it_is_opened(tmp_path: Path) -> None:
    """RWKV divides some of its weights at its first forward; no weight of the file is read yet."""
    model = rwkv(6)
    touched = find_touched(model, FORWARD)
    assert touched is not None
    assert touched.changed == {
        f"rwkv.blocks.{block}.{layer}.weight"
        for block in range(2)
        for layer in ("attention.output", "feed_forward.value")
    }
    model.save_pretrained(tmp_path)
    preparation = Preparation(
        Int8(), ScalePerturber(), Reading(ScalePerturber().direction()), ["linear"], None, FORWARD
    )
    with pytest.raises(UserError, match=r"output.weight is changed in place.*rescale_every: 0"):
        open_checkpoint(ModelSource(str(tmp_path)), torch.float32, preparation)
    with pytest.raises(UserError, match="is changed in place by the model when it runs"):
        preparation.plan(model)
    plan = preparation.plan(rwkv(0))
    assert len(plan.weights) == 14


def test_a_model_that_cannot_run_on_stand_ins_is_read_throughout() -> None:
    def refuses(model: nn.Module) -> None:
        raise RuntimeError("no numbers")

    assert read_parameters(tiny("llama"), refuses) is None


def test_the_vision_tower_stays_as_it_is(gemma: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        one = module(gemma)
    told = [record.getMessage() for record in caplog.records if "no forward" in record.msg]
    assert told == [
        "15 of the 29 weights that tune names are read by no forward (model.vision_tower): they "
        "are not tuned and stay as they are"
    ]
    tuned = [weight.path for weight in one.weights]
    assert len(tuned) == 14
    assert not [path for path in tuned if "language_model" not in path]
    stored = {weight.path for weight in stored_weights(one.network)}
    assert stored == set(tuned)
    # Nor is it advised to tune what else the tower holds.
    assert not any("no linear layers" in line for line in caplog.messages)
    for name, parameter in one.network.named_parameters():
        if "vision_tower" in name:
            original = made("gemma3").get_parameter(name)
            assert torch.equal(parameter, original.to(parameter.dtype)), name


def test_nothing_is_told_where_all_is_read(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        prepare(
            tiny("llama"),
            Int8(),
            ScalePerturber(),
            Reading(ScalePerturber().direction()),
            ["linear"],
            forward=FORWARD,
        )
    assert not [record for record in caplog.records if "no forward" in record.msg]


def test_a_pattern_of_nothing_that_is_read_is_refused(gemma: Path) -> None:
    with pytest.raises(UserError, match=r"tune: '\*vision_tower\*' names nothing that the loss"):
        module(gemma, tune=["linear", "*vision_tower*"])


def test_an_adapter_beside_the_tower_is_not_tuned(gemma: Path) -> None:
    one = module(gemma, adapter=LoRA(rank=2))
    tuned = [weight.path for weight in one.weights]
    assert tuned
    assert all("language_model" in path for path in tuned)


def test_another_objective_may_read_the_tower(gemma: Path) -> None:
    class Sees(OptionScoring):
        def rehearsal(self) -> None:
            return None

    assert len(module(gemma, objective=Sees()).weights) == 29


def test_the_estimate_counts_what_is_loaded(gemma: Path) -> None:
    parts = (ModelSource(str(gemma)), Int8(), ScalePerturber())
    ahead = ZeroOrderModule(*parts, kernels="reference")
    estimate = estimate_memory(ahead, Batches(prompts(2, 8), None, ""), base=0)
    weights = list(stored_weights(module(gemma).network))
    assert len(ahead.weights) == 14
    assert estimate.codes + estimate.scales == sum(
        tensor.nbytes for weight in weights for tensor in weight.store.tensors().values()
    )


def test_a_decoder_alone_does_not_tune_attention_to_an_encoder(tmp_path: Path) -> None:
    made("bart").save_pretrained(tmp_path)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    reading = Reading(DensePerturber().direction())
    prepare(plain, NoQuantizer(), DensePerturber(), reading, ["linear"], forward=FORWARD)
    paths = [weight.path for weight in perturbed_weights(plain)]
    assert len(paths) == 12
    assert not [path for path in paths if "encoder_attn" in path]
