"""Exported GGUF files, read again by zolit: the model that the safetensors export is."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from gguf import GGUFReader
from gguf_exports import FURTHER, MODELS, kinds, logits, made_tokenizer, tiny, written

from zolit.export.plain import save_plain
from zolit.models.gguf.write import save_gguf
from zolit.models.loading.load import load_model, load_prepared
from zolit.models.prepare import Preparation
from zolit.models.source import ModelSource
from zolit.strategies import DensePerturber, Int8, NoQuantizer, Quantizer, ScalePerturber, Stored
from zolit.tensors.reading import Reading


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return made_tokenizer()


@pytest.mark.parametrize("name", [*MODELS, *FURTHER])
@pytest.mark.parametrize("quantizer", [NoQuantizer(), Int8()], ids=["floats", "Int8"])
def test_read_back_it_is_the_safetensors_export(
    name: str, quantizer: Quantizer, tokenizer: Any, tmp_path: Path
) -> None:
    model = tiny(name)
    _, notes = written(model, quantizer, tokenizer, tmp_path)
    told = {"biases": "biases", "llama3": "llama3 scaling", "linear": "linear scaling"}
    expected_notes = [
        what for word, what in {**told, "yarn": "yarn scaling"}.items() if word in name
    ]
    assert [note.split("model's ")[1].split(" of ")[0].split(",")[0] for note in notes] == (
        expected_notes
    )
    plain = tmp_path / "plain"
    save_plain(model, plain)
    expected = logits(hf.AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32))
    source = ModelSource(str(tmp_path), gguf_file="model.gguf")
    close = 1e-5 if quantizer.quantized is False else 4e-3
    torch.testing.assert_close(
        logits(load_model(source, torch.float32)), expected, atol=close, rtol=close
    )
    kept = Stored() if quantizer.quantized else NoQuantizer()
    perturber = ScalePerturber() if quantizer.quantized else DensePerturber()
    reading = Reading(perturber.direction(), "reference")
    preparation = Preparation(kept, perturber, reading, ["linear"])
    got, _ = load_prepared(source, torch.float32, preparation)
    torch.testing.assert_close(logits(got), expected, atol=close, rtol=close)


def test_what_the_file_says_of_positions(tokenizer: Any, tmp_path: Path) -> None:
    """As llama.cpp's converter does: fields for a stretch and YaRN, a tensor for Llama 3."""
    said = {}
    for name in ("llama, linear", "llama, yarn with an attention factor", "llama, llama3"):
        folder = tmp_path / name
        folder.mkdir()
        written(tiny(name), Int8(), tokenizer, folder)
        fields = GGUFReader(folder / "model.gguf").fields
        prefix = "llama.rope.scaling."
        said[name] = {
            key.removeprefix(prefix): one.contents()
            for key, one in fields.items()
            if key.startswith(prefix)
        }
        assert ("rope_freqs.weight" in kinds(folder)) == (name == "llama, llama3")
    # llama.cpp multiplies by its own 1 + 0.1 ln(factor) too.
    own = 1.5 / (1 + 0.1 * math.log(4))
    assert said == {
        "llama, linear": {"type": "linear", "factor": 4.0},
        "llama, yarn with an attention factor": {
            "type": "yarn",
            "factor": 4.0,
            "original_context_length": 16,
            "attn_factor": pytest.approx(own, rel=1e-6),
        },
        "llama, llama3": {},
    }


def test_biases_lie_as_llama_cpp_has_them(tokenizer: Any, tmp_path: Path) -> None:
    """Rows of queries and keys, and their biases, by neighbouring pairs of a head's rotation."""
    model = tiny("llama, biases")
    bias = model.model.layers[1].self_attn.k_proj.bias.clone()
    written(model, Int8(), tokenizer, tmp_path)
    (there,) = (
        t.data for t in GGUFReader(tmp_path / "model.gguf").tensors if t.name == "blk.1.attn_k.bias"
    )
    for head in range(2):
        first, second = bias[16 * head : 16 * head + 16].chunk(2)
        expected = torch.stack([first, second], dim=1).flatten()
        assert torch.equal(torch.from_numpy(there[16 * head : 16 * head + 16].copy()), expected)


@pytest.mark.parametrize("name", ["llama, llama3", "llama, biases", "qwen2, yarn"])
def test_a_run_from_a_file_exports_the_model_of_its_forwards(
    name: str, tokenizer: Any, tmp_path: Path
) -> None:
    """First file, a run from it, its export: each has the logits of the first model."""
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    expected, _ = written(tiny(name), NoQuantizer(), tokenizer, first)
    source = ModelSource(str(first), gguf_file="model.gguf")
    perturber = DensePerturber()
    reading = Reading(perturber.direction(), "reference")
    preparation = Preparation(NoQuantizer(), perturber, reading, ["linear"])
    model, _ = load_prepared(source, torch.float32, preparation)
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    save_gguf(model, tokenizer, None, second, first / "model.gguf")
    again = load_model(ModelSource(str(second), gguf_file="model.gguf"), torch.float32)
    torch.testing.assert_close(logits(again), expected, atol=1e-5, rtol=1e-5)
    save_plain(model, tmp_path / "plain")
    plain = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    torch.testing.assert_close(logits(plain), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "without", [[], ["tokenizer_config.json"], ["tokenizer.json", "tokenizer_config.json"]]
)
def test_an_exported_folder_is_a_source(without: list[str], tokenizer: Any, tmp_path: Path) -> None:
    written(tiny(), Int8(), tokenizer, tmp_path)
    for name in without:
        (tmp_path / name).unlink()
    source = ModelSource(str(tmp_path), gguf_file="model.gguf")
    found = source.load_tokenizer()
    text = "a bright film!"
    assert found(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert (found.pad_token, found.eos_token) == (tokenizer.pad_token, tokenizer.eos_token)
    assert source.resolved_kind() == "causal"
