"""A GPTQ checkpoint under the command line: fine-tuned in place, or refused."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_recipe import changed, recipe, refusal, write
from safetensors.torch import load_file, save_file

from zolit.cli import run

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))
from quantized_folders import quantized_llama
from scaled_folders import scaled_llama


@pytest.fixture
def folder(tmp_path: Path, tiny_llama: Path) -> Path:
    """A quantized model with the tokenizer of the tiny one."""
    sizes = json.loads((tiny_llama / "config.json").read_text(encoding="utf-8"))
    kept = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id")
    folder = tmp_path / "gptq"
    folder.mkdir()
    for file in tiny_llama.glob("*token*"):
        shutil.copy(file, folder)
    quantized_llama(folder, "4 bits, act-order", **{name: sizes[name] for name in kept})
    return folder


def stored(folder: Path, rows: Path) -> dict[str, Any]:
    changes = {"model.quantizer": "Stored", "model.estimator": "ClippedTwoPoint"}
    return changed(recipe(folder, rows), changes)


def test_three_steps(folder: Path, films_csv: Path, tmp_path: Path) -> None:
    file = write(stored(folder, films_csv), tmp_path / "recipe.yaml")
    cli = run(args=["fit", "--config", file, "--run.run_dir", str(tmp_path / "run")])
    assert cli.trainer.global_step == 3
    assert cli.model.skipped_queries == 0
    assert cli.model.estimator.metrics() == {"clipped_queries": 2.0}
    formats = {weight.store.describe()["format"] for weight in cli.model.weights}
    assert formats == {"PermutedWeight of Int4Weight"}
    metrics = (tmp_path / "run" / "metrics.csv").read_text(encoding="utf-8")
    assert "clipped_queries" in metrics.splitlines()[0]


def test_a_quantizer_of_our_own_is_refused(
    folder: Path, films_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(recipe(folder, films_csv), tmp_path / "recipe.yaml")
    sentence = refusal(capsys, "fit", "--config", file, "--run.run_dir", str(tmp_path / "run"))
    assert "quantizer must be Stored" in sentence
    assert "got Int8" in sentence


def test_another_method_is_refused(
    folder: Path, films_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"]["quant_method"] = "squeeze"
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    file = write(stored(folder, films_csv), tmp_path / "recipe.yaml")
    sentence = refusal(capsys, "fit", "--config", file, "--run.run_dir", str(tmp_path / "run"))
    assert "quant_method='squeeze', expected one of gptq, aqlm" in sentence


@pytest.fixture
def float8_folder(tmp_path: Path, tiny_llama: Path) -> Path:
    """A model of float8 blocks with the tokenizer of the tiny one."""
    sizes = json.loads((tiny_llama / "config.json").read_text(encoding="utf-8"))
    kept = ("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id")
    folder = tmp_path / "fp8"
    folder.mkdir()
    for file in tiny_llama.glob("*token*"):
        shutil.copy(file, folder)
    scaled_llama(folder, "fp8, blocks", **{name: sizes[name] for name in kept})
    return folder


def test_three_steps_of_float8_blocks(
    float8_folder: Path, films_csv: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(stored(float8_folder, films_csv), tmp_path / "recipe.yaml")
    run(args=["estimate", "--config", file])
    assert "peak" in capsys.readouterr().out
    cli = run(args=["fit", "--config", file, "--run.run_dir", str(tmp_path / "run")])
    assert cli.trainer.global_step == 3
    assert {weight.store.describe()["format"] for weight in cli.model.weights} == {"Float8Weight"}


@pytest.mark.parametrize("fault", ["bias", "pad"])
def test_what_is_not_the_model_is_refused_before_a_folder(
    fault: str,
    float8_folder: Path,
    films_csv: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tensors = load_file(float8_folder / "model.safetensors")
    config = json.loads((float8_folder / "config.json").read_text(encoding="utf-8"))
    if fault == "pad":
        config["pad_token_id"] = 99999
        (float8_folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    else:
        tensors["model.layers.0.input_layernorm.bias"] = torch.ones(64)
        save_file(tensors, float8_folder / "model.safetensors")
    file = write(stored(float8_folder, films_csv), tmp_path / "recipe.yaml")
    sentence = refusal(capsys, "fit", "--config", file, "--run.run_dir", str(tmp_path / "run"))
    assert ("has no place in the" if fault == "bias" else "expected an id below") in sentence
    assert not (tmp_path / "run").exists()
