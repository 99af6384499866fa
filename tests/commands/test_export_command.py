"""``zolit export`` on a tiny run, in every format."""

import shutil
import sys
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, refusal, write

from zolit.cli import main, run
from zolit.compat import Int8Tensor

PROMPT = "Review: film 3 is bright\nSentiment:"
LOADING = {"safetensors": {}, "torchao": {}, "gguf": {"gguf_file": "model.gguf"}}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, films_csv: Path) -> Path:
    folder = tmp_path_factory.mktemp("export_command")
    options = {"trainer.max_steps": 3, "run.run_dir": str(folder / "run")}
    # Far enough from the start that no rounding hides it.
    options |= {"trainer.enable_progress_bar": False, "model.optimizer.init_args.lr": 0.5}
    file = write(changed(recipe(tiny_llama, films_csv), options), folder / "recipe.yaml")
    main(["fit", "--config", file])
    return folder / "run"


@pytest.fixture(scope="module")
def expected(finished: Path) -> Tensor:
    """Logits of the best checkpoint, in zolit."""
    best = str(finished / "checkpoints" / "best.ckpt")
    tuned = run(args=["test", "--config", str(finished / "config.yaml"), "--ckpt_path", best])
    return logits(tuned.model.network, tuned.model.source.load_tokenizer())


def logits(model: torch.nn.Module, tokenizer: hf.PreTrainedTokenizerBase) -> Tensor:
    inputs = tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        return model(input_ids=inputs["input_ids"]).logits


@pytest.mark.parametrize("kind", LOADING)
def test_what_transformers_loads_is_the_tuned_model(
    kind: str,
    finished: Path,
    expected: Tensor,
    tiny_llama: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    to = tmp_path / "model"
    main(["export", str(finished), "--format", kind, "--to", str(to)])
    told = capsys.readouterr()
    assert f"after step 3, as {kind}" in told.out
    assert told.err == ""
    model = hf.AutoModelForCausalLM.from_pretrained(to, **LOADING[kind])
    tokenizer = hf.AutoTokenizer.from_pretrained(to)
    assert model.dtype == torch.float32
    # Scales of GGUF are float16.
    close = 5e-4 if kind == "gguf" else 1e-5
    torch.testing.assert_close(logits(model, tokenizer), expected, atol=close, rtol=close)
    start = hf.AutoModelForCausalLM.from_pretrained(tiny_llama)
    assert (logits(start, tokenizer) - expected).abs().max() > 10 * close
    assert isinstance(model.model.layers[0].mlp.up_proj.weight, Int8Tensor) == (kind == "torchao")
    card = (to / "README.md").read_text(encoding="utf-8")
    parts = ("Int8", "ScalePerturber (eps 0.01", "| steps | 3 |", "test accuracy", "torch")
    for text in (*parts, "| seed of directions | 0 |", "| rows | films.csv |", "peak memory"):
        assert text in card
    assert str(finished.parent) not in card
    assert "not empty" in refusal(capsys, "export", str(finished), "--to", str(to))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_a_type_of_blocks(
    finished: Path, expected: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["--format", "gguf", "--gguf-type", "Q4_0", "--to", str(tmp_path / "model")]
    main(["export", str(finished), *args])
    told = capsys.readouterr().err
    assert "14 weights are rounded to Q4_0" in told
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "14 weights are rounded to Q4_0" in card
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "model", gguf_file="model.gguf")
    tokenizer = hf.AutoTokenizer.from_pretrained(tmp_path / "model")
    error = (logits(model, tokenizer) - expected).abs().max()
    assert 1e-3 < error < 0.3 * expected.abs().max()


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["EMPTY", "--to", "TO"], "holds no run"),
        (["RUN", "--to", "TO", "--format", "onnx"], "invalid choice: 'onnx'"),
        (["RUN", "--to", "TO", "--gguf-type", "Q8_0"], "use --format gguf"),
        (["RUN", "--to", "TO", "--format", "gguf", "--gguf-type", "Q5_K"], "invalid choice"),
        (["RUN", "--to", "TO", "--ckpt_path", "RUN/config.yaml"], "cannot be read as a checkpoint"),
        (["RUN", "--to", "TO", "--ckpt_path", "none.ckpt"], "none.ckpt'; checkpoints of the run:"),
        (["RUN", "--to", "RUN/config.yaml"], "not empty"),
        (["RUN", "--to", "RUN/config.yaml/model"], "cannot be written"),
        (["RUN"], "--to"),
    ],
)
def test_bad_arguments(
    args: list[str],
    sentence: str,
    finished: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"RUN": finished, "EMPTY": tmp_path, "TO": tmp_path / "model"}
    for word, place in places.items():
        args = [
            str(place) + one.removeprefix(word) if one.startswith(word) else one for one in args
        ]
    assert sentence in refusal(capsys, "export", *args)
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_lost_its_model(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copied = Path(shutil.copytree(finished, tmp_path / "run"))
    config = copied / "config.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("    path: /", "    path: /gone/"), encoding="utf-8")
    sentence = refusal(capsys, "export", str(copied), "--to", str(tmp_path / "model"))
    assert "there is no folder" in sentence
    config.write_text("model: 3\n", encoding="utf-8")
    assert "names no recipe" in refusal(
        capsys, "export", str(copied), "--to", str(tmp_path / "model")
    )
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
