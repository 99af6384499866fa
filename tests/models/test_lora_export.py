"""Runs with adapters as folders for PEFT, and merged for everything else."""

import sys
from pathlib import Path

import peft
import pytest
import torch
import transformers as hf
from lora_runs import (
    FLOATS,
    LORA,
    Files,
    content,
    first_stage,
    fitted,
    logits,
    model_of,
    second_stage,
)

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, refusal

from zolit.cli import main


@pytest.fixture(scope="module")
def given(tiny_llama: Path, films_csv: Path) -> Files:
    return tiny_llama, films_csv


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, given: Files) -> Path:
    return first_stage(given, tmp_path_factory.mktemp("lora_first"))


@pytest.fixture(scope="module")
def second(first: Path, given: Files) -> Path:
    return second_stage(given, first)


def export(run_folder: Path, to: Path, kind: str) -> Path:
    last = str(run_folder / "checkpoints" / "last.ckpt")
    main(["export", str(run_folder), "--format", kind, "--to", str(to), "--ckpt_path", last])
    return to


def test_peft_reads_the_exported_adapter(given: Files, tmp_path: Path) -> None:
    one = fitted(given, tmp_path, "floats", **FLOATS, **{"model.optimizer.init_args.lr": 3.0})
    folder = export(one, tmp_path / "adapter", "peft")
    base = hf.AutoModelForCausalLM.from_pretrained(given[0])
    start = logits(base)
    got = logits(peft.PeftModel.from_pretrained(base, folder))
    expected = logits(model_of(one))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    assert (got - start).abs().max() > 0.05
    config = peft.PeftConfig.from_pretrained(folder)
    assert (config.r, config.lora_alpha) == (4, 8)
    assert set(config.target_modules) == {"q_proj", "v_proj"}
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "library_name: peft" in card
    # And zolit goes on with it.
    lora = changed({"a": LORA}, {"a.init_args.start_from": str(folder)})["a"]
    frozen = {"model.adapter": lora, "model.tune": ["norms"]}
    on = fitted(given, tmp_path, "on", **{**FLOATS, **frozen})
    for name, tensor in content(one)["state_dict"].items():
        weight = model_of(on).get_parameter(name.removesuffix(".weight"))
        assert torch.equal(weight.data, tensor)


@pytest.mark.parametrize("kind", ["safetensors", "torchao", "gguf"])
def test_other_formats_have_the_adapter_merged(
    kind: str, first: Path, given: Files, tmp_path: Path
) -> None:
    folder = export(first, tmp_path / "merged", kind)
    options = {"gguf_file": "model.gguf"} if kind == "gguf" else {}
    merged = hf.AutoModelForCausalLM.from_pretrained(folder, **options)
    assert not [name for name, _ in merged.named_parameters() if "lora" in name]
    # Floats of a GGUF file are float16.
    atol = 2e-3 if kind == "gguf" else 1e-5
    expected = logits(model_of(first))
    torch.testing.assert_close(logits(merged), expected, atol=atol, rtol=1e-4)
    start = hf.AutoModelForCausalLM.from_pretrained(given[0])
    assert (expected - logits(start)).abs().max() > 0.05


def test_what_no_adapter_can_say_is_not_exported_as_one(
    second: Path, first: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = ["--ckpt_path", str(second / "checkpoints" / "last.ckpt")]
    args = ["export", str(second), "--format", "peft", "--to", str(tmp_path / "x"), *last]
    assert "moved weights of the model itself" in refusal(capsys, *args)
    assert not (tmp_path / "x").exists()


def test_an_export_as_adapter_needs_one(
    given: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = fitted(given, tmp_path, "plain", **{"model.adapter": None})
    capsys.readouterr()
    args = ["export", str(plain), "--format", "peft", "--to", str(tmp_path / "x")]
    assert "has no adapter" in refusal(capsys, *args)
