"""A run of entries beside codes, exported in every format: what was read, to the rounding told."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from gguf import GGMLQuantizationType as Kind
from gguf import GGUFReader, dequantize
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, write

import zolit
from zolit.cli import main
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.tensors.weight import perturbed_weights

PROMPT = "Review: film 3 is bright\nSentiment:"
OPTIONS = {
    "trainer.enable_progress_bar": False,
    "run.zero_shot": False,
    "run.test_after_fit": False,
    "model.quantizer": {"class_path": "Int4", "init_args": {"group_size": 32}},
    "model.perturber": {"class_path": "SparsePerturber"},
    "model.mask": {"class_path": "Sensitive", "init_args": {"fraction": 0.02}},
    "model.optimizer.init_args.lr": 1.0,
}
GGUF = {"gguf_file": "model.gguf"}


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def run(
    request: Any, tiny_llama: Path, films_csv: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("overlay")
    options = {**OPTIONS, "model.dtype": request.param, "run.run_dir": str(folder / "run")}
    main(["fit", "--config", write(changed(recipe(tiny_llama, films_csv), options), folder / "r")])
    return folder / "run"


def logits(model: Any, folder: Path) -> Tensor:
    ids = hf.AutoTokenizer.from_pretrained(folder)(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        return model(input_ids=ids).logits.float()


@pytest.mark.parametrize("form", ["safetensors", "torchao", "gguf"])
def test_floats_hold_what_the_run_read(form: str, run: Path, tmp_path: Path, capsys: Any) -> None:
    network = zolit.load(run).network
    half = network.dtype == torch.bfloat16
    read = {weight.path: weight.dense().float() for weight in perturbed_weights(network)}
    assert all(isinstance(weight.store, SparseOverlay) for weight in perturbed_weights(network))
    capsys.readouterr()
    main(["export", str(run), "--format", form, "--to", str(tmp_path / "model")])
    said = capsys.readouterr().err
    assert "14 weights" in said if half or form != "safetensors" else said == ""
    if half:
        assert "which the run kept as float32" in said
        assert "rounded to b" in said.lower()
    if form == "gguf":
        there = {one.name: one for one in GGUFReader(tmp_path / "model/model.gguf").tensors}
        kind = Kind.BF16 if half else Kind.F32
        assert there["blk.1.ffn_down.weight"].tensor_type == kind
        mine = dequantize(there["blk.1.ffn_down.weight"].data, kind)
        wanted = read["model.layers.1.mlp.down_proj.weight"]
        assert torch.equal(torch.tensor(mine).view(wanted.shape), wanted)
    options: dict[str, Any] = {"dtype": network.dtype, **(GGUF if form == "gguf" else {})}
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "model", **options)
    for path, value in read.items():
        torch.testing.assert_close(model.get_parameter(path).float(), value, atol=1e-6, rtol=0)
    close = 2e-2 if half else 1e-5
    expected = logits(network, tmp_path / "model")
    torch.testing.assert_close(logits(model, tmp_path / "model"), expected, atol=close, rtol=close)
    start = hf.AutoModelForCausalLM.from_pretrained(network.name_or_path)
    assert (logits(start, tmp_path / "model") - expected).abs().max() > 5 * close
    assert "14 weights" in (tmp_path / "model/README.md").read_text(encoding="utf-8") or not said


def half_a_step(value: Tensor, kind: str) -> Tensor:
    """Largest error of each of the blocks of 32 columns, whose scales are float16."""
    low, high = value.unflatten(1, (-1, 32)).aminmax(dim=2)
    size = torch.maximum(low.abs(), high.abs())
    step = size / 127 if kind == "Q8_0" else (high - low) / 15
    return (step / 2 + size * 2.0**-9).repeat_interleave(32, 1)


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1"])
def test_blocks_are_made_anew_and_told(kind: str, run: Path, tmp_path: Path, capsys: Any) -> None:
    network = zolit.load(run).network
    capsys.readouterr()
    folder = tmp_path / "model"
    main(["export", str(run), "--format", "gguf", "--gguf-type", kind, "--to", str(folder)])
    said = capsys.readouterr().err
    assert f"both are written as one matrix, quantized anew to {kind}" in said
    model = hf.AutoModelForCausalLM.from_pretrained(folder, **GGUF, dtype=torch.float32)
    for weight in perturbed_weights(network):
        read, there = weight.dense().float(), model.get_parameter(weight.path)
        assert ((there - read).abs() <= half_a_step(read, kind)).all()
        assert not torch.equal(there, read)
    main(["predict", str(run), "--rows", str(_rows(tmp_path)), "--to", str(tmp_path / "a.csv")])
    assert len((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()) == 3


def _rows(folder: Path) -> Path:
    file = folder / "rows.csv"
    file.write_text("text\nfilm 3 is bright\nfilm 4 is dull\n", encoding="utf-8")
    return file
