"""Every tensor of a checkpoint has a place in the model, or the checkpoint is refused."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from tiny_models import tiny
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.loading.load import load_model, load_prepared
from zolit.models.loading.places import find_places
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource
from zolit.strategies import CodePerturber, DensePerturber, Int8, NoQuantizer, Quantizer
from zolit.tensors.reading import Reading

Tensors = dict[str, Tensor]
ANY = "model.layers.1.self_attn.q_proj"


def codes(leaf: str, dtype: torch.dtype) -> Callable[[Tensors], None]:
    """Codes in place of a weight, their scales beside them."""

    def change(tensors: Tensors) -> None:
        weight = tensors[f"{ANY}.weight"]
        scale = weight.abs().amax(1, keepdim=True) / 100
        tensors[f"{ANY}.weight"] = (weight / scale).to(dtype)
        tensors[f"{ANY}.{leaf}"] = scale.view(1, -1).clone()

    return change


def cast(dtype: torch.dtype) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[f"{ANY}.weight"] = tensors[f"{ANY}.weight"].to(dtype)

    return change


def added(name: str, *shape: int) -> Callable[[Tensors], None]:
    def change(tensors: Tensors) -> None:
        tensors[name] = torch.ones(shape)

    return change


UNPLACED: dict[str, tuple[Callable[[Tensors], None], str]] = {
    "float8 and its scales": (
        codes("weight_scale_inv", torch.float8_e4m3fn),
        rf"'{ANY}\.weight' of .* is float8_e4m3fn, codes .*'{ANY}\.weight_scale_inv' lies beside",
    ),
    "int8 and SCB": (
        codes("SCB", torch.int8),
        rf"'{ANY}\.weight' of .* is int8, codes .*'{ANY}\.SCB' lies beside it.*no quantization_con",
    ),
    "float8 without scales": (cast(torch.float8_e5m2), r"float8_e5m2.*no scales lie beside it"),
    "integers": (cast(torch.int32), r"is int32, codes where the model has floats"),
    "scales of floats": (
        added(f"{ANY}.weight_scale", 32, 1),
        r"q_proj\.weight_scale' of .* has no place .*belongs to codes.*no quantization_config",
    ),
    "a bias": (added(f"{ANY}.bias", 32), r"q_proj\.bias'.* has no place.*the layer there has no b"),
    "factors": (
        added(f"{ANY}.lora_A.weight", 4, 32),
        r"lora_A\.weight'.* has no place .*part of an adapter.*merge_and_unload",
    ),
    "a block too many": (
        added("model.layers.2.input_layernorm.weight", 32),
        r"layers\.2\.input_layernorm.* has no place .*the model has 2 such blocks",
    ),
    "a norm": (added("model.layers.0.self_attn.q_norm.weight", 8), r"it has nothing of that name"),
    "a pooler in a block": (added("model.layers.0.pooler.weight", 8), r"nothing of that name"),
    "two of one weight": (
        added("norm.weight", 32),
        r"'model\.norm\.weight' and 'norm\.weight' .* are both for the same weight",
    ),
}


def preparation(quantizer: Quantizer) -> Preparation:
    perturber = CodePerturber() if quantizer.quantized else DensePerturber()
    return Preparation(
        quantizer, perturber, Reading(perturber.direction(), "reference"), ["linear"]
    )


def saved(
    folder: Path, change: Callable[[Tensors], None], kind: str = "one file", name: str = "llama"
) -> ModelSource:
    """A checkpoint with its tensors changed, in one of the ways that it may be kept."""
    tiny(name).save_pretrained(folder)
    file = folder / "model.safetensors"
    tensors = load_file(file)
    change(tensors)
    file.unlink()
    if kind == "one file":
        save_file(tensors, file, {"format": "pt"})
    elif kind == "pickle":
        torch.save(tensors, folder / "pytorch_model.bin")
    else:
        suffix = "bin" if kind == "sharded pickle" else "safetensors"
        stem = "pytorch_model" if suffix == "bin" else "model"
        places = {}
        for number in range(2):
            part = {name: tensors[name] for name in sorted(tensors)[number::2]}
            shard = f"{stem}-{number}.{suffix}"
            if suffix == "bin":
                torch.save(part, folder / shard)
            else:
                save_file(part, folder / shard, {"format": "pt"})
            places |= dict.fromkeys(part, shard)
        index = {"metadata": {}, "weight_map": places}
        (folder / f"{stem}.{suffix}.index.json").write_text(json.dumps(index))
    return ModelSource(str(folder))


@pytest.mark.parametrize("fault", UNPLACED)
def test_a_tensor_without_a_place_is_refused(fault: str, tmp_path: Path) -> None:
    change, said = UNPLACED[fault]
    source = saved(tmp_path, change)
    for load in (
        lambda: load_prepared(source, torch.float32, preparation(Int8())),
        lambda: load_prepared(source, torch.float32, preparation(NoQuantizer())),
        lambda: load_model(source, torch.float32),
    ):
        with pytest.raises(UserError, match=said) as caught:
            load()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["sharded", "pickle", "sharded pickle"])
@pytest.mark.parametrize("fault", ["int8 and SCB", "integers", "a bias", "factors"])
def test_in_every_kind_of_file(fault: str, kind: str, tmp_path: Path) -> None:
    change, said = UNPLACED[fault]
    source = saved(tmp_path, change, kind)
    with pytest.raises(UserError, match=said):
        load_prepared(source, torch.float32, preparation(Int8()))


@pytest.mark.parametrize("kind", ["one file", "sharded", "pickle", "sharded pickle"])
def test_what_has_its_place_is_loaded(kind: str, tmp_path: Path) -> None:
    source = saved(tmp_path, lambda tensors: None, kind)
    model, _ = load_prepared(source, torch.float32, preparation(NoQuantizer()))
    theirs = tiny("llama").state_dict()
    mine: dict[str, Any] = dict(model.named_parameters())
    for name, value in theirs.items():
        read = mine[name].dense() if hasattr(mine[name], "dense") else mine[name]
        assert torch.equal(read, value), name


HARMLESS: dict[str, tuple[str, Callable[[Tensors], None]]] = {
    "rotary tables": ("llama", added("model.layers.0.self_attn.rotary_emb.inv_freq", 4)),
    "masks": ("gpt2", added("transformer.h.0.attn.bias", 1, 1, 32, 32)),
    "mask values": ("gpt2", added("transformer.h.0.attn.masked_bias")),
    "positions": ("roberta", added("roberta.embeddings.position_ids", 1, 40)),
}


@pytest.mark.parametrize("kind", HARMLESS)
def test_constants_of_old_checkpoints_pass(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name, change = HARMLESS[kind]
    source = saved(tmp_path, change, name=name)
    load_prepared(source, torch.float32, preparation(Int8()))
    load_model(source, torch.float32)
    assert not [one for one in caplog.records if one.name.startswith("zolit")]


@pytest.mark.parametrize("kind", ["one file", "pickle"])
def test_heads_of_other_tasks_are_told(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def pool(tensors: Tensors) -> None:
        added("roberta.pooler.dense.weight", 32, 32)(tensors)
        added("roberta.pooler.dense.bias", 32)(tensors)

    source = saved(tmp_path, pool, kind, "roberta")
    with caplog.at_level(logging.WARNING):
        load_prepared(source, torch.float32, preparation(Int8()))
    said = [one.getMessage() for one in caplog.records if "head of another task" in one.message]
    assert said == [
        "left out, as the head of another task: roberta.pooler.dense.bias and 1 more tensors"
    ]


def test_names_are_matched_as_transformers_does() -> None:
    """Experts of Mixtral are merged, and old norms of BERT renamed; what is left has no place."""
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 4}
    with torch.device("meta"):
        mixtral: nn.Module = hf.MixtralForCausalLM(
            hf.MixtralConfig(**sizes, **heads, num_key_value_heads=2, num_local_experts=2)
        )
        bert: nn.Module = hf.BertForMaskedLM(hf.BertConfig(**sizes, **heads))
    part = "model.layers.0.block_sparse_moe.experts.0"
    found = find_places(mixtral, [f"{part}.w1.weight", f"{part}.w2.weight", f"{part}.w4.weight"])
    assert {name for names in found.targets.values() for name in names} == {
        "model.layers.0.mlp.experts.gate_up_proj",
        "model.layers.0.mlp.experts.down_proj",
    }
    assert found.unknown == [f"{part}.w4.weight"]
    old = "bert.embeddings.LayerNorm.gamma"
    assert find_places(bert, [old]).targets == {old: ["bert.embeddings.LayerNorm.weight"]}


class Code:
    """What a pickle may bring beside tensors."""

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return print, ("run by a pickle",)


def test_a_pickle_with_code_is_refused_in_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(tmp_path, lambda tensors: None, "pickle")
    torch.save({"x": Code()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match=r"pickle of more than tensors, .*; give safetensors") as e:
        load_prepared(source, torch.float32, preparation(Int8()))
    assert not [c for c in str(e.value) if ord(c) < 32]
    assert not caplog.records
    assert "run by" not in capsys.readouterr().out
