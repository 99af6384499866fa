"""`tune`: words, patterns, ties, and names that name nothing."""

import pytest
import torch
from preparing import prepare
from tiny_models import LAYERS, batch, logits, prepared, tiny

from zolit.errors import UserError
from zolit.formats.dense import DenseWeight
from zolit.objectives.option_scoring import OptionScoring
from zolit.strategies import DensePerturber, Int4, Int8, NoQuantizer
from zolit.tensors.reading import Reading
from zolit.tensors.weight import perturbed_weights

DECODER = "model.layers.*.self_attn.q_proj.weight"


def paths(name: str, tune: list[str]) -> list[str]:
    return [weight.path for weight in perturbed_weights(prepared(name, Int8(), tune)[0])]


@pytest.mark.parametrize(
    ("name", "tune", "expected", "pairable"),
    [
        ("llama", ["output"], ["lm_head.weight"], True),
        ("llama", ["embeddings"], ["model.embed_tokens.weight"], True),
        ("llama_tied", ["embeddings"], ["model.embed_tokens.weight"], True),
        ("llama_tied", ["output"], ["model.embed_tokens.weight"], True),
        ("opt", ["lm_head.weight"], [], True),
        ("llama", [DECODER], [f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)], True),
        ("gpt2", ["transformer.wpe.weight"], ["transformer.wpe.weight"], False),
        ("llama", ["model.norm.weight"], ["model.norm.weight"], False),
        ("llama", ["model.norm.weight", "output"], ["model.norm.weight", "lm_head.weight"], False),
    ],
)
def test_what_moves(name: str, tune: list[str], expected: list[str], pairable: bool) -> None:
    if not expected:
        # A tied weight has the name of its first holder only.
        with pytest.raises(UserError, match="names no parameter"):
            prepared(name, Int8(), tune)
        return
    model, _, can_pair = prepared(name, Int8(), tune)
    assert [weight.path for weight in perturbed_weights(model)] == expected
    assert can_pair == pairable


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("llama", "norms", 2 * LAYERS + 1),
        ("qwen3", "norms", 4 * LAYERS + 1),
        ("gemma3", "norms", 6 * LAYERS + 1),
        ("gpt2", "norms", 2 * (2 * LAYERS + 1)),
        ("opt", "biases", 6 * LAYERS),
        ("gpt2", "biases", 4 * LAYERS),
        ("opt", "embeddings", 2),
        ("roberta", "embeddings", 3),
    ],
)
def test_kinds_are_counted(name: str, kind: str, count: int) -> None:
    assert len(paths(name, [kind])) == count


def test_a_tied_weight_is_one_weight_in_both_places() -> None:
    model, reading, _ = prepared("llama_tied", Int8(), ["embeddings"])
    assert model.lm_head.weight is model.model.embed_tokens.weight
    weight = perturbed_weights(model)[0]
    assert isinstance(weight.store, DenseWeight)
    plain = prepared("llama_tied", Int8(), ["linear"])[0]
    with reading.perturbed(3, 0.01, 1):
        got = logits(model, "llama_tied")
        value = weight.dense()
    plain.model.embed_tokens.weight.copy_(value)
    torch.testing.assert_close(got, logits(plain, "llama_tied"), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["llama", "llama_tied", "opt", "gpt2", "gemma3", "roberta"])
@pytest.mark.parametrize("quantizer", ["none", "int8"])
def test_everything_tuned_reads_as_a_model_of_perturbed_weights(name: str, quantizer: str) -> None:
    chosen = Int8() if quantizer == "int8" else NoQuantizer()
    model, reading, pairable = prepared(name, chosen, ["*"])
    assert not pairable
    plain = tiny(name)
    parameters = dict(plain.named_parameters())
    with reading.perturbed(3, 0.01, 1):
        got = logits(model, name)
        for weight in perturbed_weights(model):
            parameters[weight.path].copy_(weight.dense())
    assert len(perturbed_weights(model)) == len(parameters)
    torch.testing.assert_close(got, logits(plain, name), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ["opt", "gpt2", "llama"])
@pytest.mark.parametrize("kinds", [["biases"], ["embeddings"], ["embeddings", "output", "linear"]])
def test_pairs_of_what_says_it_is_pairable(name: str, kinds: list[str]) -> None:
    if name == "llama" and kinds == ["biases"]:
        return
    tune = [k for k in kinds if k != "embeddings"]
    if "embeddings" in kinds:
        inputs = {"opt": "*embed_tokens*", "gpt2": "*wte*", "llama": "*embed_tokens*"}
        tune.append(inputs[name])
    model, reading, pairable = prepared(name, NoQuantizer(), tune, DensePerturber())
    assert pairable
    objective, one = OptionScoring(), batch(name)
    with torch.no_grad():
        with reading.perturbed(5, 0.01, 2):
            both = objective.losses(model, one, 2)
        for sign, paired in zip((1, -1), both, strict=True):
            with reading.perturbed(5, sign * 0.01, 1):
                torch.testing.assert_close(objective.losses(model, one)[0], paired)
    assert both[0] != both[1]


def test_float_weights_share_the_storage_of_the_model() -> None:
    model, perturber = tiny("llama"), DensePerturber()
    addresses = {path: p.data_ptr() for path, p in model.named_parameters()}
    prepare(model, NoQuantizer(), perturber, Reading(perturber.direction()), ["linear", "norms"])
    weights = perturbed_weights(model)
    assert len(weights) == 7 * LAYERS + 2 * LAYERS + 1
    for weight in weights:
        assert weight.store.weight.data_ptr() == addresses[weight.path]


@pytest.mark.parametrize(
    ("entry", "near"), [("norm", "norms"), ("lm_head.wieght", "lm_head.weight")]
)
def test_a_wrong_name_gets_the_nearest(entry: str, near: str) -> None:
    with pytest.raises(UserError, match=f"tune: '{entry}' names no parameter.*{near}"):
        prepared("llama", Int8(), ["linear", entry])


def test_a_group_size_that_does_not_divide_names_the_layer() -> None:
    with pytest.raises(UserError, match=r"group_size.*model\.layers\.0\.self_attn\.q_proj"):
        prepared("llama", Int4(64))
