"""Checkpoints of float8, int8, packed and AWQ codes: kept as they are, tuned, told or refused."""

import logging
from pathlib import Path

import pytest
import torch
from quantized_folders import quantized_llama, write_config
from safetensors.torch import save_file
from scaled_folders import KINDS, scaled_llama
from test_prequantized import load, logits, step, tensors
from torch import Tensor
from transformers import AutoModelForCausalLM

from zolit.errors import UserError
from zolit.export.torchao import save_torchao
from zolit.strategies import Float8, ScalePerturber

PROJ = "model.layers.0.mlp.up_proj"


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_the_decoded_weights(kind: str, tmp_path: Path) -> None:
    floats, contents = scaled_llama(tmp_path, kind)
    one = load(tmp_path)
    torch.testing.assert_close(logits(one.network), logits(floats), rtol=1e-3, atol=1e-4)
    assert {weight.store.describe()["format"] for weight in one.weights} == {KINDS[kind][2]}
    assert len(one.weights) == 14
    if f"{PROJ}.weight" in contents:  # codes of one byte are the file's own
        kept = {weight.path: weight.store.tensors()["codes"] for weight in one.weights}
        for path, codes in kept.items():
            assert torch.equal(codes.view(torch.uint8), contents[path].view(torch.uint8))


@pytest.mark.parametrize("granularity", ["row", "group"])
@pytest.mark.parametrize("kind", ["fp8, blocks", "fp8, tensors", "int-quantized", "awq"])
def test_scales_are_tuned_and_saved_alone(kind: str, granularity: str, tmp_path: Path) -> None:
    scaled_llama(tmp_path, kind)
    one, other = (
        load(tmp_path, perturber=ScalePerturber(granularity=granularity)) for _ in range(2)
    )
    start = tensors(one)
    step(one, 0)
    moved = {name for name, tensor in tensors(one).items() if not torch.equal(tensor, start[name])}
    assert moved == one.state_dict().keys()
    assert all(name.endswith(("scale", "zero")) for name in moved)
    other.load_state_dict(one.state_dict())
    step(one, 1)
    step(other, 1)
    mine, theirs = tensors(one), tensors(other)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_compiled_kernels_agree_on_blocks(tmp_path: Path) -> None:
    scaled_llama(tmp_path, "fp8, blocks", intermediate_size=256)
    one, other = load(tmp_path), load(tmp_path, kernels="compiled")
    torch.testing.assert_close(logits(one.network), logits(other.network), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("fp8, blocks", "config.json declares activation_scheme=dynamic"),
        (
            "fp8, tensors",
            "config.json declares activation_scheme=static, the checkpoint holds 14 tensors such "
            "as model.layers.0.mlp.down_proj.input_scale",
        ),
        (
            "float-quantized",
            "config.json declares input_activations of group_0: 8 bits, dynamic",
        ),
        ("int-quantized", None),
        ("awq", None),
    ],
)
def test_rounding_of_activations_is_told(
    kind: str, said: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scaled_llama(tmp_path, kind)
    with caplog.at_level(logging.WARNING):
        load(tmp_path)
    start = "activations stay floats, as only weights are read: "
    lines = [one.getMessage() for one in caplog.records if one.name.startswith("zolit")]
    assert lines == ([] if said is None else [start + said])


def write(folder: Path, contents: dict[str, Tensor]) -> None:
    save_file({k: v.contiguous() for k, v in contents.items()}, folder / "model.safetensors")


def test_scales_of_the_cache_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    floats, contents = scaled_llama(tmp_path, "fp8, blocks")
    contents["model.layers.0.self_attn.k_scale"] = torch.ones(())
    write(tmp_path, contents)
    with caplog.at_level(logging.WARNING):
        one = load(tmp_path)
    assert "1 tensors such as model.layers.0.self_attn.k_scale" in caplog.text
    torch.testing.assert_close(logits(one.network), logits(floats), rtol=1e-3, atol=1e-4)


def test_layers_left_as_floats_stay_so(tmp_path: Path) -> None:
    floats, contents = scaled_llama(tmp_path, "fp8, blocks")
    del contents[f"{PROJ}.weight_scale_inv"]
    contents[f"{PROJ}.weight"] = floats.get_submodule(PROJ).weight.data
    write(tmp_path, contents)
    one = load(tmp_path)
    torch.testing.assert_close(logits(one.network), logits(floats), rtol=1e-3, atol=1e-4)
    assert not one.network.get_submodule(PROJ).weight.store.quantized


def test_codes_without_scales_are_refused(tmp_path: Path) -> None:
    _, contents = scaled_llama(tmp_path, "fp8, blocks")
    del contents[f"{PROJ}.weight_scale_inv"]
    write(tmp_path, contents)
    with pytest.raises(
        UserError,
        match=rf"'{PROJ}\.weight' of .* is float8_e4m3fn, codes where the model has floats \(no "
        r"scales lie beside it\), and quant_method=fp8 .* does not cover it",
    ):
        load(tmp_path)


@pytest.mark.parametrize("name", ["lora_A", "weight_g"])
def test_what_lies_beside_the_codes_is_refused(name: str, tmp_path: Path) -> None:
    _, contents = scaled_llama(tmp_path, "fp8, blocks")
    contents[f"{PROJ}.{name}"] = torch.ones(4)
    write(tmp_path, contents)
    with pytest.raises(UserError, match=f"up_proj.{name}' of .* lies beside the codes"):
        load(tmp_path)


def test_another_quantizer_is_refused(tmp_path: Path) -> None:
    scaled_llama(tmp_path, "fp8, blocks")
    with pytest.raises(UserError, match=r"must be Stored for .*quant_method=fp8 .*got Float8"):
        load(tmp_path, quantizer=Float8())


@pytest.mark.parametrize("declared", ["gptq", 3, ["gptq"], True])
def test_a_declaration_that_is_no_mapping(declared: object, tmp_path: Path) -> None:
    floats, _ = scaled_llama(tmp_path, "fp8, blocks")
    write_config(tmp_path, floats, declared)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"quantization_config of .*expected a mapping"):
        load(tmp_path)


def test_zero_points_against_their_label_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Symmetric codes under either label are the same model; the wrong label is told once."""
    floats, contents = quantized_llama(tmp_path, "4 bits")
    declared = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True}
    for name, packed in contents.items():
        if name.endswith("qzeros"):
            contents[name] = torch.full_like(packed, 0x77777777)
    write(tmp_path, contents)
    models = []
    for label in ("gptq", "gptq_v2"):
        write_config(tmp_path, floats, {**declared, "checkpoint_format": label})
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            models.append(logits(load(tmp_path).network))
        told = [one.getMessage() for one in caplog.records if "zero points" in one.getMessage()]
        assert len(told) == (label == "gptq_v2")
    assert torch.equal(*models)


@pytest.mark.parametrize("kind", KINDS)
def test_an_export_to_torchao_reads_the_same_here(kind: str, tmp_path: Path) -> None:
    """Codes and tuned scales as transformers loads them, and as zolit reads them again."""
    (tmp_path / "in").mkdir()
    scaled_llama(tmp_path / "in", kind, hidden_size=256, intermediate_size=256)
    one = load(tmp_path / "in")
    step(one, 0)
    mine = logits(one.network)
    assert save_torchao(one.network, tmp_path / "out") == []
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    torch.testing.assert_close(logits(theirs), mine, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(logits(load(tmp_path / "out").network), mine, rtol=1e-4, atol=1e-5)
