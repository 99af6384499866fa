"""A config.json that describes no model is refused in a sentence, whatever is wrong with it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import tiny

from zolit.errors import UserError
from zolit.models.config_file import not_valid
from zolit.models.loading.load import load_model, load_prepared
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource
from zolit.strategies import CodePerturber, Int8
from zolit.tensors.reading import Reading


def load(folder: Path) -> None:
    perturber = CodePerturber()
    reading = Reading(perturber.direction(), "reference")
    preparation = Preparation(Int8(), perturber, reading, ["linear"])
    load_prepared(ModelSource(str(folder)), torch.float32, preparation)


def changed(folder: Path, **fields: Any) -> None:
    tiny("llama").save_pretrained(folder)
    file = folder / "config.json"
    content = json.loads(file.read_text(encoding="utf-8")) | fields
    kept = {name: value for name, value in content.items() if value != "removed"}
    file.write_text(json.dumps(kept), encoding="utf-8")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"pad_token_id": 9999}, "pad_token_id of .* is 9999, expected an id below vocab_size=96"),
        ({"torch_dtype": "torch.bfloat16"}, r"torch_dtype of .* is 'torch\.bfloat16', expected"),
        ({"dtype": {"a": 1}}, r"dtype of .* is \{'a': 1\}, expected the name of a type"),
        ({"dtype": "floaty"}, "does not describe a model .*floaty"),
        ({"quantization_config": "gptq"}, "quantization_config of .* is 'gptq', expected a mapp"),
        ({"quantization_config": {}}, "quant_method=None, expected one of"),
        ({"quantization_config": {"quant_method": 3}}, "quant_method=3, expected one of"),
        ({"architectures": 3}, "architectures of .* is 3, expected a list of names"),
        ({"num_attention_heads": 0}, "num_attention_heads of .* is 0, expected a positive number"),
        ({"num_hidden_layers": -1}, "num_hidden_layers of .* is -1, expected a positive number"),
        ({"hidden_size": "64"}, "the configuration of .* is not valid"),
        ({"hidden_act": "squash"}, "does not describe a model .*squash"),
        ({"num_hidden_layers": 3}, "holds no tensor 'model.layers.2."),
        ({"num_hidden_layers": 1}, r"layers\.1\..* no place .*the model has 1 such blocks"),
        ({"intermediate_size": "removed"}, r"has shape \[.*the model expects \["),
        ({"model_type": "removed"}, "source.path: no configuration could be read"),
        ({"model_type": "squash"}, "source.path: no configuration could be read"),
    ],
)
def test_a_broken_field_is_named(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    changed(tmp_path, **fields)
    with pytest.raises(UserError, match=said) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "3", "{", "null", '{"model_type": "llama"'])
def test_a_file_that_is_no_mapping(text: str, tmp_path: Path) -> None:
    changed(tmp_path)
    (tmp_path / "config.json").write_text(text, encoding="utf-8")
    for one in (load, lambda folder: load_model(ModelSource(str(folder)), torch.float32)):
        with pytest.raises(UserError, match=r"config\.json") as caught:
            one(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_package_that_is_missing_is_named() -> None:
    error = ImportError("TimmWrapperModel requires the timm library but it was not found.")
    said = str(not_valid("a/folder", error))
    assert "'a/folder' needs a package that is not installed" in said
    assert "timm" in said
    assert said.endswith("install it beside zolit")


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    changed(tmp_path)
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(UserError, match=r"config\.json of .* does not describe a model"):
        load(tmp_path)


@pytest.mark.parametrize("value", [None, "x", -1, 0, 0.5, True, [], {}, [1, "a"], {"a": 1}])
def test_no_field_ends_in_a_traceback(value: Any, tmp_path: Path) -> None:
    changed(tmp_path)
    file = tmp_path / "config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    said: list[str] = []
    for field in content:
        file.write_text(json.dumps({**content, field: value}), encoding="utf-8")
        try:
            load(tmp_path)
        except UserError as error:
            said.append(str(error))
    assert len(said) > 5
    assert not [one for one in said if "\n" in one]
