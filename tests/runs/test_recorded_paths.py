"""A run can be tested, resumed and asked from any folder."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from cli_recipe import changed, recipe, write

from zolit.cli import main, run
from zolit.runs.recorded_paths import text_with_absolute_paths, with_absolute_paths


def test_what_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("model", "facebook", "rows"):
        (tmp_path / name).mkdir()
    (tmp_path / "rows.csv").touch()
    (tmp_path / "a.ckpt").touch()
    rows = {"class_path": "zolit.datamodules.FileRows", "init_args": {"path": "rows.csv"}}
    hub = {"class_path": "zolit.datamodules.HubRows", "init_args": {"name": "./rows"}}
    packed = {"class_path": "FileRows", "init_args": {"path": "rows.csv", "package": "some"}}
    scores = {"class_path": "SqueezeLLM", "init_args": {"bits": 4, "saliency": "a.ckpt"}}
    alike = {"class_path": "SqueezeLLM", "init_args": {"bits": 4, "saliency": None}}
    other = {"class_path": "mine.Rows", "init_args": {"path": "rows.csv"}}
    text = {"class_path": "TextDataModule", "init_args": {"text": "rows.csv", "test_text": "no"}}
    config = {
        "model": {"source": {"path": "model", "package": None}, "start_from": ["a.ckpt", "b.ckpt"]},
        "data": {"init_args": {"a": rows, "b": hub, "c": packed, "d": other, "e": text}},
        "quantizers": [scores, alike],
        "ckpt_path": "last",
    }
    found = with_absolute_paths(config)
    assert found["model"]["source"]["path"] == str(tmp_path / "model")
    assert found["model"]["start_from"] == [str(tmp_path / "a.ckpt"), "b.ckpt"]
    given = found["data"]["init_args"]
    assert given["a"]["init_args"]["path"] == str(tmp_path / "rows.csv")
    assert given["b"]["init_args"]["name"] == str(tmp_path / "rows")
    assert (given["c"], given["d"]) == (packed, other)
    assert given["e"]["init_args"] == {"text": str(tmp_path / "rows.csv"), "test_text": "no"}
    assert found["quantizers"][0]["init_args"]["saliency"] == str(tmp_path / "a.ckpt")
    assert found["quantizers"][1] == alike
    assert found["ckpt_path"] == "last"
    assert with_absolute_paths({"source": {"path": "facebook/opt-125m"}}) == {
        "source": {"path": "facebook/opt-125m"}
    }
    written = "# made by\n" + yaml.safe_dump(config, sort_keys=False)
    assert yaml.safe_load(text_with_absolute_paths(written)) == found
    assert text_with_absolute_paths(written).startswith("# made by\n")
    again = text_with_absolute_paths(text_with_absolute_paths(written))
    assert again == text_with_absolute_paths(written)


def test_from_another_folder(
    tmp_path: Path,
    tiny_llama: Path,
    films_csv: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    shutil.copytree(tiny_llama, here / "model")
    shutil.copy(films_csv, here / "films.csv")
    monkeypatch.chdir(here)
    config = write(recipe(Path("model"), Path("films.csv")), here / "recipe.yaml")
    run(args=["fit", "--config", config])
    folder = here / "runs" / "recipe"
    figures = json.loads((folder / "summary.json").read_text())["final"]
    whole = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]

    monkeypatch.chdir(there)
    best = str(folder / "checkpoints" / "best.ckpt")
    cli = run(args=["test", "--config", str(folder / "config.yaml"), "--ckpt_path", best])
    assert cli.trainer.callback_metrics["test_loss"].item() == pytest.approx(figures["test_loss"])
    (there / "new.csv").write_text("text\nfilm 1 is bright\n")
    main(["predict", str(folder), "--rows", "new.csv", "--to", "answers.csv"])
    assert len(list(csv.DictReader((there / "answers.csv").open(encoding="utf-8")))) == 1
    main(["verify", str(folder)])
    assert "weights as recorded" in capsys.readouterr().out
    # A run that is cut short in one folder goes on in another.
    monkeypatch.chdir(here)
    short = changed(recipe(Path("model"), Path("films.csv")), {"trainer.max_steps": 2})
    run(args=["fit", "--config", write(short, here / "short.yaml")])
    monkeypatch.chdir(there)
    run_dir = here / "runs" / "short"
    longer = ["--trainer.max_steps", "3"]
    run(args=["fit", "--config", str(run_dir / "config.yaml"), "--resume", str(run_dir), *longer])
    again = torch.load(run_dir / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(again[name], whole[name]) for name in whole)
