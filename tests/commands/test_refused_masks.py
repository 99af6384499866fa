"""What is wrong with masks and saliency files: one sentence, exit code 2, nothing half-written."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from cli_recipe import Recipe, changed, recipe, refusal, write
from safetensors.torch import load_file, save_file

import zolit
from zolit.cli import main

CODES = {"model.perturber": {"class_path": "CodePerturber"}, "run.run_dir": "run"}


def mask(name: str, **options: Any) -> dict[str, Any]:
    return {"model.mask": {"class_path": name, "init_args": options}}


def other_model(folder: Path, to: Path, name: str, value: float) -> Path:
    """The same model with one weight set to a value."""
    shutil.copytree(folder, to)
    tensors = load_file(to / "model.safetensors")
    tensors[name][:] = value
    save_file(tensors, to / "model.safetensors", {"format": "pt"})
    return to


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def saliency(tiny_llama: Path, films_csv: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saliency")
    file = write(recipe(tiny_llama, films_csv), folder / "recipe.yaml")
    main(["saliency", "--config", file, "--to", str(folder / "scores"), "--saliency.samples", "2"])
    return folder / "scores"


def said(base: Recipe, changes: dict[str, Any], here: Path, capsys: Any, *args: str) -> str:
    file = write(changed(base, {**CODES, **changes}), here / "recipe.yaml")
    before = sorted(here.rglob("*"))
    sentence = refusal(capsys, *(args or ("fit",)), "--config", file)
    assert sorted(here.rglob("*")) == before
    return sentence


@pytest.mark.parametrize("fraction", [0.0, 1.5, -0.1, float("nan")])
@pytest.mark.parametrize("name", ["Magnitude", "Sensitive"])
def test_a_fraction_out_of_range(
    fraction: float, name: str, here: Path, tiny_llama: Path, films_csv: Path, capsys: Any
) -> None:
    file = {"file": "none"} if name == "Sensitive" else {}
    base = recipe(tiny_llama, films_csv)
    changes = mask(name, fraction=fraction, **file)
    assert "fraction must be in (0, 1], got" in said(base, changes, here, capsys)
    with pytest.raises(zolit.UserError, match="fraction must be in"):
        getattr(zolit, name)(fraction=fraction, **file)


@pytest.mark.parametrize("command", ["fit", "estimate"])
def test_what_a_model_shows(
    command: str, saliency: Path, here: Path, tiny_llama: Path, films_csv: Path, capsys: Any
) -> None:
    base = recipe(tiny_llama, films_csv)
    cut = here / "cut"
    cut.write_bytes(saliency.read_bytes()[:-9])
    other = other_model(tiny_llama, here / "other", "model.norm.weight", 3.0)
    for changes, sentence in (
        (mask("Magnitude", fraction=1e-9), "coordinates of model.layers.0.self_attn.q_proj.weight"),
        (mask("Sensitive", file="none"), "got 'none', expected a file"),
        (mask("Sensitive", file=str(cut)), "is not a whole safetensors file"),
        (mask("Sensitive", file=str(saliency), fraction=0.5), "keeps the"),
        (mask("Sensitive", file=str(saliency), per="row"), "needs all"),
        (
            {
                **mask("Magnitude", fraction=0.1),
                "model.perturber": {"class_path": "LowRankPerturber"},
                "model.quantizer": {"class_path": "NoQuantizer"},
            },
            "mask Magnitude leaves single coordinates out",
        ),
    ):
        assert sentence in said(base, changes, here, capsys, command)
    if command == "fit":  # an estimate reads no numbers
        of = {"model.source.path": str(other), **mask("Sensitive", file=str(saliency))}
        assert "is of another model: model.norm.weight has other" in said(base, of, here, capsys)


def test_saliency_of_what_has_none(
    here: Path, tiny_llama: Path, tiny_roberta: Path, films_csv: Path, capsys: Any
) -> None:
    base = recipe(tiny_llama, films_csv)
    (here / "short.txt").write_text("film one is bright")
    (here / "no.jsonl").write_text('{"texts": "a"}\n')
    nan = other_model(tiny_llama, here / "nan", "model.layers.1.mlp.up_proj.weight", float("nan"))
    args = ("saliency", "--to", "scores", "--saliency.samples", "2")
    short = ("--saliency.text", "short.txt", "--saliency.length", "32")
    assert "'short.txt' has " in said(base, {}, here, capsys, *args, *short)
    lines = ("--saliency.text", "no.jsonl")
    assert "no field 'text' in line 1" in said(base, {}, here, capsys, *args, *lines)
    none = ("--saliency.text", "none")
    assert "a file of calibration text, got 'none'" in said(base, {}, here, capsys, *args, *none)
    bad = {"model.source.path": str(nan)}
    told = said(base, bad, here, capsys, *args)
    assert "model.layers.1 gives hidden states that are NaN" in told
    (here / "own.txt").write_text("film one is bright and short or dull and long " * 9)
    own = ("--saliency.text", "own.txt", "--saliency.length", "8")
    masked = {"model.source.path": str(tiny_roberta)}
    assert "fills in masks" in said(base, masked, here, capsys, *args, *own)
