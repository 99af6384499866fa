"""Weights read and quantized one by one equal those of a model loaded whole."""

import json
import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from loads import assert_same, preparation, saved, whole
from safetensors.torch import load_file, save_file
from tiny_models import MODELS, logits, tiny
from torch import Tensor

from zolit.errors import UserError
from zolit.formats.int8 import Int8Weight
from zolit.models.loading.load import load_model, load_prepared
from zolit.models.loading.shards import INDEX, SINGLE
from zolit.models.source import ModelSource
from zolit.strategies import (
    Float8,
    Int4,
    Int8,
    NoQuantizer,
    Quantizer,
    SqueezeLLM,
)
from zolit.tensors.weight import stored_weights

QUANTIZERS: dict[str, Quantizer] = {
    "none": NoQuantizer(),
    "int8": Int8(),
    "int4": Int4(32),
    "int4_symmetric": Int4(32, symmetric=True),
    "float8": Float8(),
    "int8_error": Int8(keep_error=True),
}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_every_architecture_and_format(name: str, quantizer: str, tmp_path: Path) -> None:
    source, chosen = saved(name, tmp_path), QUANTIZERS[quantizer]
    got, pairable = load_prepared(source, torch.float32, preparation(chosen))
    expected, can_pair = whole(source, chosen, torch.float32)
    assert_same(got, expected)
    assert pairable == can_pair
    assert len(list(stored_weights(got))) > 0
    assert torch.equal(logits(got, name), logits(expected, name))


def test_where_files_cannot_be_read_by_position(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Windows: they are mapped, and left as they are."""
    source = saved("llama", tmp_path)
    file = next(tmp_path.glob("*.safetensors"))
    before, (expected, _) = file.read_bytes(), whole(source, Int8(), torch.float32)
    monkeypatch.delattr(os, "pread")
    got, _ = load_prepared(source, torch.float32, preparation(Int8()))
    assert_same(got, expected)
    assert file.read_bytes() == before


def test_tables_are_made_one_weight_at_a_time(tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    got, _ = load_prepared(source, torch.bfloat16, preparation(SqueezeLLM(3)))
    assert_same(got, whole(source, SqueezeLLM(3), torch.bfloat16)[0])


@pytest.mark.parametrize("tune", [["*"], ["output", "norms"], ["model.layers.1.*", "embeddings"]])
@pytest.mark.parametrize("name", ["llama", "llama_tied", "gemma3"])
def test_shards_dtypes_and_whatever_is_tuned(name: str, tune: list[str], tmp_path: Path) -> None:
    source = saved(name, tmp_path, "20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    for quantizer in (NoQuantizer(), Int4(32)):
        got, pairable = load_prepared(source, torch.bfloat16, preparation(quantizer, tune))
        expected, can_pair = whole(source, quantizer, torch.bfloat16, tune)
        assert_same(got, expected)
        assert pairable == can_pair


def test_the_way_is_one_by_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What these tests compare is not twice the same loader."""
    with caplog.at_level(logging.INFO, "zolit"):
        load_prepared(saved("llama", tmp_path), torch.float32, preparation(Int8()))
    assert not caplog.records


def rewrite(folder: Path, change: Any) -> None:
    tensors = load_file(folder / SINGLE)
    change(tensors)
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})


def test_how_it_generates_is_read_too(tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    (tmp_path / "generation_config.json").write_text('{"temperature": 0.25, "do_sample": true}')
    got, _ = load_prepared(source, torch.float32, preparation(Int8()))
    expected, _ = whole(source, Int8(), torch.float32)
    assert_same(got, expected)
    assert got.generation_config.temperature == 0.25
    assert got.generation_config.to_dict() == expected.generation_config.to_dict()


def test_leave_to_run_code_changes_nothing_where_there_is_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = replace(saved("llama", tmp_path), trust_remote_code=True)
    with caplog.at_level(logging.INFO, "zolit"):
        got, _ = load_prepared(source, torch.float32, preparation(Int8()))
    assert not caplog.records
    assert_same(got, whole(source, Int8(), torch.float32)[0])


def test_mixed_dtypes(tmp_path: Path) -> None:
    source = saved("llama", tmp_path)

    def mix(tensors: dict[str, Tensor]) -> None:
        for number, name in enumerate(sorted(tensors)):
            dtype = (torch.bfloat16, torch.float16, torch.float32, torch.float64)[number % 4]
            tensors[name] = tensors[name].to(dtype)

    rewrite(tmp_path, mix)
    for dtype in (torch.float32, torch.bfloat16):
        got, _ = load_prepared(source, dtype, preparation(Int4(32)))
        assert_same(got, whole(source, Int4(32), dtype)[0])


@pytest.mark.parametrize("name", ["llama_tied", "gpt2"])
def test_keys_of_the_base_model(name: str, tmp_path: Path) -> None:
    model = tiny(name)
    base = getattr(model, model.base_model_prefix)
    base.save_pretrained(tmp_path)
    assert not any(key.startswith(f"{model.base_model_prefix}.") for key in base.state_dict())
    source = ModelSource(path=str(tmp_path), kind="causal")
    got, _ = load_prepared(source, torch.float32, preparation(Int8()))
    assert_same(got, whole(source, Int8(), torch.float32)[0])
    assert torch.equal(got.get_input_embeddings().weight, model.get_input_embeddings().weight)


@pytest.mark.parametrize("same", [True, False])
def test_both_ends_of_a_tie_are_in_the_file(same: bool, tmp_path: Path) -> None:
    source = saved("llama_tied", tmp_path)

    def add(tensors: dict[str, Tensor]) -> None:
        weight = tensors["model.embed_tokens.weight"].clone()
        tensors["lm_head.weight"] = weight if same else weight + 1

    rewrite(tmp_path, add)
    tune = ["linear", "embeddings"]
    got, _ = load_prepared(source, torch.float32, preparation(Int8(), tune))
    assert_same(got, whole(source, Int8(), torch.float32, tune)[0])
    assert torch.equal(got.lm_head.weight, got.model.embed_tokens.weight) == same


def test_old_names_of_norms_are_renamed(tmp_path: Path) -> None:
    source = saved("roberta", tmp_path)

    def age(tensors: dict[str, Tensor]) -> None:
        for name in [n for n in tensors if "LayerNorm." in n]:
            old = name.replace("LayerNorm.weight", "LayerNorm.gamma")
            tensors[old.replace("LayerNorm.bias", "LayerNorm.beta")] = tensors.pop(name)

    rewrite(tmp_path, age)
    got, _ = load_prepared(source, torch.float32, preparation(Int8()))
    assert_same(got, whole(source, Int8(), torch.float32)[0])
    assert torch.equal(
        logits(got, "roberta"), logits(whole(source, Int8(), torch.float32)[0], "roberta")
    )


def test_a_pickled_checkpoint_is_loaded_whole(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = saved("llama", tmp_path)
    torch.save(load_file(tmp_path / SINGLE), tmp_path / "pytorch_model.bin")
    (tmp_path / SINGLE).unlink()
    with caplog.at_level(logging.INFO, "zolit"):
        got, _ = load_prepared(source, torch.float32, preparation(Int8()))
    assert "is loaded whole" in caplog.text
    assert "it has no safetensors files" in caplog.text
    assert_same(got, whole(source, Int8(), torch.float32)[0])


class _Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_nothing_is_unpickled_but_tensors(tmp_path: Path) -> None:
    folder, trap = tmp_path / "model", tmp_path / "sprung"
    source = saved("llama", folder)
    tensors: dict[str, Any] = load_file(folder / SINGLE)
    tensors["more"] = _Trap(trap)
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / SINGLE).unlink()
    with pytest.raises(UserError, match="no weights could be read"):
        load_prepared(source, torch.float32, preparation(Int8()))
    assert not trap.exists()


# Bad input


class _Faulty(Int8):
    """A user's quantizer with a fault of its own."""

    def store(self, weight: Tensor, path: str) -> Int8Weight:
        if "layers.1" in path:
            raise ZeroDivisionError(path)
        return super().store(weight, path)


def test_a_quantizer_that_fails_is_heard(tmp_path: Path) -> None:
    """transformers' loader would collect the error and go on."""
    with pytest.raises(ZeroDivisionError, match=r"model\.layers\.1\."):
        load_prepared(saved("llama", tmp_path), torch.float32, preparation(_Faulty()))


def test_tune_is_judged_before_weights_are_read(tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    (tmp_path / SINGLE).write_bytes(b"not weights")
    with pytest.raises(UserError, match="tune: 'lineer' names no parameter"):
        load_prepared(source, torch.float32, preparation(Int8(), ["lineer"]))


def test_a_group_size_that_does_not_fit_names_the_layer(tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    with pytest.raises(UserError, match=r"group_size.*of model\.layers\.\d.*_proj\.weight"):
        load_prepared(source, torch.float32, preparation(Int4(64)))


@pytest.mark.parametrize("length", [0, 5, 100, -1, -5000])
def test_a_file_cut_short(length: int, tmp_path: Path) -> None:
    source = saved("llama", tmp_path)
    data = (tmp_path / SINGLE).read_bytes()
    (tmp_path / SINGLE).write_bytes(data[:length])
    with pytest.raises(UserError, match=r"model\.safetensors' is not a whole safetensors file"):
        load_prepared(source, torch.float32, preparation(Int8()))


@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight", "model.embed_tokens.weight"]
)
def test_a_missing_tensor(name: str, tmp_path: Path) -> None:
    source = saved("llama_tied", tmp_path)
    rewrite(tmp_path, lambda tensors: tensors.pop(name))
    with pytest.raises(UserError, match=f"holds no tensor '{name}'"):
        load_prepared(source, torch.float32, preparation(Int8()))
    with pytest.raises(UserError, match="holds no tensor '"):
        load_model(source, torch.float32)


def test_a_tensor_missed_only_by_the_loader(tmp_path: Path) -> None:
    """Where a key is unknown, what is missing shows after the loader's renaming."""
    source = saved("llama", tmp_path)

    def rename(tensors: dict[str, Tensor]) -> None:
        tensors["another.weight"] = tensors.pop("model.norm.weight")

    rewrite(tmp_path, rename)
    with pytest.raises(UserError, match=r"holds no tensor 'model\.norm\.weight'"):
        load_prepared(source, torch.float32, preparation(Int8()))


@pytest.mark.parametrize(
    ("name", "file"),
    [("model.layers.1.mlp.up_proj.weight", "model.safetensors"), ("model.norm.weight", "")],
)
def test_a_wrong_shape(name: str, file: str, tmp_path: Path) -> None:
    source = saved("llama", tmp_path)

    def cut(tensors: dict[str, Tensor]) -> None:
        tensors[name] = tensors[name][:-1].clone()

    rewrite(tmp_path, cut)
    with pytest.raises(UserError, match=rf"tensor '{name}' of .*{file}' has shape \[.*expects \["):
        load_prepared(source, torch.float32, preparation(Int8()))
    with pytest.raises(UserError, match=rf"tensor '{name}' of .* has shape \[.*expects \["):
        load_model(source, torch.float32)


def test_a_shard_that_is_not_there(tmp_path: Path) -> None:
    source = saved("llama", tmp_path, "20KB")
    gone = sorted(tmp_path.glob("*.safetensors"))[1]
    gone.unlink()
    with pytest.raises(UserError, match=f"names the shard '{gone.name}', which is not there"):
        load_prepared(source, torch.float32, preparation(Int8()))


def test_an_index_of_another_checkpoint(tmp_path: Path) -> None:
    source = saved("llama", tmp_path, "20KB")
    index = json.loads((tmp_path / INDEX).read_text())
    index["weight_map"]["more.weight"] = next(iter(index["weight_map"].values()))
    (tmp_path / INDEX).write_text(json.dumps(index))
    with pytest.raises(UserError, match=r"holds tensor 'more\.weight', which it does not"):
        load_prepared(source, torch.float32, preparation(Int8()))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("{", "is not the index of a checkpoint"),
        ("{}", "is not the index of a checkpoint"),
        ('{"weight_map": [1]}', "is not the index of a checkpoint"),
        ('{"weight_map": {}}', "names no tensor"),
        ('{"weight_map": {"a": "../b.safetensors"}}', r"places tensor 'a' in '\.\./b"),
        ('{"weight_map": {"a": "b.bin"}}', r"places tensor 'a' in 'b\.bin'"),
    ],
)
def test_a_damaged_index(text: str, match: str, tmp_path: Path) -> None:
    source = saved("llama", tmp_path, "20KB")
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(UserError, match=match):
        load_prepared(source, torch.float32, preparation(Int8()))


HUB = """
import sys
sys.path.insert(0, sys.argv[1])
import torch
from loads import assert_same, preparation, whole
from zolit.strategies import Int4
from zolit.models.loading.load import load_prepared
from zolit.models.source import ModelSource
import zolit.models.loading.load
source = ModelSource(path="someone/tiny", revision=sys.argv[2] or None)
expected, _ = whole(source, Int4(32), torch.bfloat16)
zolit.models.loading.load.load_model = None
got, _ = load_prepared(source, torch.bfloat16, preparation(Int4(32)))
assert_same(got, expected)
print("same")
"""


@pytest.mark.slow
@pytest.mark.parametrize("shard", ["1GB", "20KB"])
@pytest.mark.parametrize("revision", ["", "branch"])
def test_a_model_of_the_hub(shard: str, revision: str, tmp_path: Path) -> None:
    """From the hub's cache, as it stands after a download."""
    repository, commit = tmp_path / "models--someone--tiny", "0" * 40
    saved("llama", repository / "snapshots" / commit, shard)
    (repository / "refs").mkdir()
    (repository / "refs" / (revision or "main")).write_text(commit)
    environment = os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", HUB, str(Path(__file__).parents[1]), revision]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, timeout=300, env=environment, cwd=tmp_path
    )
    assert done.stdout.endswith("same\n"), done.stderr
