"""Every family of models that is read from GGUF files, beside transformers' own of these numbers.

The files are written by `gguf_models`, which uses nothing of zolit. llama.cpp gives the logits of
the same files to its rounding (docs/gguf.md).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf_cases import CASES, Case
from loads import preparation
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.gguf.config import gguf_config
from zolit.models.gguf.families import FAMILIES
from zolit.models.loading.load import load_model, load_prepared
from zolit.strategies import NoQuantizer


def logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(40).view(2, 20) * 7 % 100, use_cache=False).logits


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_what_was_written(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = case.model()
    source, expected = case.write(tmp_path, model), logits(model)
    torch.testing.assert_close(
        logits(load_model(source, torch.float32)), expected, atol=1e-5, rtol=1e-5
    )
    streamed, _ = load_prepared(source, torch.float32, preparation(NoQuantizer()))
    torch.testing.assert_close(logits(streamed), expected, atol=1e-5, rtol=1e-5)


def test_every_family_has_its_case() -> None:
    assert {case.architecture for case in CASES.values()} == FAMILIES.keys()


def outcome(case: Case, folder: Path, model: nn.Module, **changes: Any) -> Any:
    """The configuration of a file with other fields, or the sentence that refuses it."""
    fields = {
        name: value for name, value in {**case.fields, **changes}.items() if value is not None
    }
    other = Case(case.architecture, case.kind, case.options, fields, case.extra)
    source = other.write(folder, model)
    try:
        return gguf_config(source.gguf_path()).to_dict()
    except Exception as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("name", CASES)
def test_no_field_is_dropped_in_silence(name: str, tmp_path: Path) -> None:
    """Another value of any field gives another configuration, or is refused."""
    case = CASES[name]
    model = case.model()
    before = outcome(case, tmp_path, model)
    assert isinstance(before, dict)
    others = {bool: lambda one: not one, int: lambda one: 2 * one + 1, float: lambda one: 3 * one}
    for key, value in case.fields.items():
        if name in ("bloom", "mamba") and key == "context_length":
            continue  # these have no table of positions, and their scores no end
        change = {str: lambda one: "yarn", list: lambda one: one[::-1], **others}[type(value)]
        assert outcome(case, tmp_path, model, **{key: change(value)}) != before, key


@pytest.mark.parametrize("name", CASES)
def test_what_no_rule_asks_for_is_refused(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    model = case.model()
    for key, value in {
        "attention.scale": 0.0123,
        "logit_scale": 0.5,
        "residual_scale": 0.22,
        "embedding_scale": 12.0,
        "attention.causal": False,
        "rope.scaling.yarn_log_multiplier": 0.1,
        "something.new": 3,
    }.items():
        found = outcome(case, tmp_path, model, **{key: value})
        assert isinstance(found, str)
        assert f"{case.architecture}.{key} = {value}" in found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention.scale", 0.0),
        ("attention.scale", 0.25),
        ("logit_scale", 1.0),
        ("expert_count", 0),
        ("attention.sliding_window", 64),
        ("rope.scaling.finetuned", True),
        ("rope.scaling.type", "none"),
        ("tensor_data_layout", "Meta AI original pth"),
    ],
)
def test_what_changes_nothing_passes(key: str, value: Any, tmp_path: Path) -> None:
    case, model = CASES["llama"], CASES["llama"].model()
    expected = outcome(case, tmp_path, model)
    assert outcome(case, tmp_path, model, **{key: value}) == expected


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("phi3", {"rope.scaling.type": None}),
        ("falcon", {"tensor_data_layout": "jploski"}),
        ("gemma3", {"attention.sliding_window_pattern": 6}),
        ("gemma3", {"attention.sliding_window_pattern": [True] * 5 + [False, True]}),
        ("gpt2", {"attention.head_count_kv": None}),
        ("stablelm", {"use_parallel_residual": False}),
    ],
)
def test_files_of_other_converters(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """What older or newer versions of the converter leave out, or say beside the rest."""
    case = CASES[name]
    model = case.model()
    expected = outcome(case, tmp_path, model)
    assert isinstance(expected, dict)
    assert outcome(case, tmp_path, model, **changes) == expected


@pytest.mark.parametrize(("layers", "scalar"), [(62, 16), (2, 32)])
def test_the_largest_gemma_scales_by_its_width(layers: int, scalar: int, tmp_path: Path) -> None:
    """llama.cpp knows Gemma 3 27B by its 62 layers; its scale is not that of a head's width."""
    case = CASES["gemma3"]
    extra = {f"unused.{number}": [0.0] for number in range(62)}  # as many tensors as layers
    found = outcome(replace(case, extra=extra), tmp_path, case.model(), block_count=layers)
    assert found["query_pre_attn_scalar"] == scalar


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("llama", "attention.layer_norm_rms_epsilon"),
        ("gpt2", "attention.layer_norm_epsilon"),
        ("llama", "context_length"),
        ("phi3", "embedding_length"),
    ],
)
def test_a_field_that_is_missing(name: str, key: str, tmp_path: Path) -> None:
    case = CASES[name]
    found = outcome(case, tmp_path, case.model(), **{key: None})
    assert f"has no field '{case.architecture}.{key}'" in found


@pytest.mark.parametrize("value", [0, "four", [2, 4], -1.5, True])
def test_a_number_that_is_none(value: Any, tmp_path: Path) -> None:
    case = CASES["llama"]
    found = outcome(case, tmp_path, case.model(), **{"attention.head_count": value})
    assert "expected one whole number above 0 for all layers" in found


def test_a_tensor_without_a_place(tmp_path: Path) -> None:
    case = CASES["llama"]
    extra = {"blk.1.attn_q_norm.weight": [1.0] * 16}
    other = Case(case.architecture, case.kind, case.options, case.fields, extra)
    source = other.write(tmp_path, case.model())
    for load in (
        lambda: load_model(source, torch.float32),
        lambda: load_prepared(source, torch.float32, preparation(NoQuantizer())),
    ):
        with pytest.raises(UserError, match=r"the tensor 'blk\.1\.attn_q_norm\.weight', for which"):
            load()


@pytest.mark.parametrize("name", ["gpt2", "bloom", "lfm2"])
def test_a_tensor_that_only_others_have(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    extra = {"blk.0.attn_sinks.weight": [1.0] * 4}
    if name != "lfm2":
        extra["rope_freqs.weight"] = [1.0] * 8
    other = Case(case.architecture, case.kind, case.options, case.fields, extra)
    source = other.write(tmp_path, case.model())
    with pytest.raises(UserError, match=r"holds the tensor '(rope_freqs|blk\.0\.attn_sinks)"):
        load_model(source, torch.float32)


def test_an_architecture_that_is_not_read(tmp_path: Path) -> None:
    case = CASES["llama"]
    source = case.write(tmp_path, case.model())
    data = source.gguf_path().read_bytes().replace(b"llama", b"grok9")
    source.gguf_path().write_bytes(data)
    with pytest.raises(
        UserError, match="is of architecture 'grok9', expected one of bloom, falcon"
    ):
        source.load_config()
