"""``zolit saliency`` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_recipe import recipe, refusal, write

from zolit.calibration.saliency_file import Saliency
from zolit.cli import main
from zolit.models.loading.load import load_model
from zolit.models.source import ModelSource
from zolit.training.dtype import DTYPES

TEXT = "a film is bright and short or dull and long " * 3


@pytest.fixture
def config(tmp_path: Path, tiny_llama: Path, films_csv: Path, monkeypatch: Any) -> str:
    """The path of a recipe, beside which two texts lie."""
    monkeypatch.chdir(tmp_path)
    Path("c4.json").write_text("".join(json.dumps({"text": TEXT}) + "\n" for _ in range(5)))
    Path("own.txt").write_text(20 * TEXT)
    return write(recipe(tiny_llama, films_csv), Path("recipe.yaml"))


def test_scores_of_a_text_of_ones_own(
    config: str, tiny_llama: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--saliency.text", "own.txt", "--saliency.samples", "3", "--saliency.length", "16"]
    main(["saliency", "--config", config, "--to", "a.safetensors", *options])
    shown = capsys.readouterr().out
    assert "saliency: 1/4 passes through blocks" in shown
    assert "saliency: 4/4 passes through blocks" in shown
    assert "a.safetensors: fisher scores of 14 matrices with" in shown
    found = Saliency.open("a.safetensors")
    assert (found.facts.samples, found.facts.length, found.facts.keep) == (3, 16, 0.01)
    found.check(load_model(ModelSource(str(tiny_llama)), DTYPES["bfloat16"]))


def test_scores_of_the_rows_of_a_task(config: str) -> None:
    main(["saliency", "--config", config, "--to", "rows", "--saliency.method", "mean_grad_sq"])
    found = Saliency.open("rows")
    assert (found.method, found.facts.samples) == ("mean_grad_sq", 16)


def test_scores_of_documents_at_stored_weights(config: str) -> None:
    options = {"text": "c4.json", "samples": 4, "keep": 1, "stored": "true", "length": 12}
    arguments = [f"--saliency.{name}={one}" for name, one in options.items()]
    main(["saliency", "--config", config, "--to", "dense", *arguments])
    found = Saliency.open("dense")
    assert found.all_scores(found.paths[0]).shape == found.shape(found.paths[0])
    # Of quantized weights no digest is kept: they are none of the checkpoint's.
    assert not set(found.paths) & found.facts.digests.keys()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "--to: got none, expected a new file"),
        (["--to", "recipe.yaml"], "--to: there is a 'recipe.yaml' already"),
        (["--to", "a", "--saliency.keep", "2"], "saliency.keep must be in (0, 1], got 2"),
        (["--to", "a", "--saliency.samples", "99"], "saliency.samples: got 99, but the recipe has"),
        (
            ["--to", "a", "--saliency.text", "own.txt", "--saliency.length", "65"],
            "saliency.length: got 65, the model reads at most 64 tokens",
        ),
        (["--to", "a", "--saliency.text", "own.txt"], "windows of length=64 need 6400"),
    ],
)
def test_refusals(
    config: str, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().rglob("*"))
    assert message in refusal(capsys, "saliency", "--config", config, *options)
    assert sorted(Path().rglob("*")) == before
