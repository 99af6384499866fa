"""A run under a mask that reads a file: the same coordinates from any folder, and no others."""

from pathlib import Path

import pytest
from cli_recipe import changed, recipe, refusal, write
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from zolit.cli import main

QUIET = {"trainer.enable_progress_bar": False, "run.zero_shot": False, "run.test_after_fit": False}


def test_a_run_under_a_saliency_is_replayed_with_it_alone(
    tiny_llama: Path,
    films_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    plain = recipe(tiny_llama, films_csv)
    scores = ["--to", "rows.saliency", "--saliency.keep", "0.1"]
    main(["saliency", "--config", write(plain, Path("plain.yaml")), *scores])
    mask = {"class_path": "Sensitive", "init_args": {"file": "rows.saliency", "fraction": 0.05}}
    codes = {"class_path": "CodePerturber", "init_args": {"eps": 1.0}}
    options = {**QUIET, "model.mask": mask, "model.perturber": codes, "run.run_dir": "masked"}
    options["model.optimizer.init_args.lr"] = 100.0
    main(["fit", "--config", write(changed(plain, options), Path("masked.yaml"))])

    monkeypatch.chdir(there)
    main(["verify", str(here / "masked")])
    assert "weights as recorded after steps: 3" in capsys.readouterr().out
    main(["publish", str(here / "masked"), "--to", "masked.zolit"])
    assert "they also need rows.saliency" in capsys.readouterr().out
    file = here / "rows.saliency"
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    name = next(one for one in tensors if one.endswith("q_proj.weight.indices"))
    tensors[name][0] = tensors[name].max() - 1
    save_file(tensors, file, metadata)
    said = refusal(capsys, "verify", str(here / "masked"))
    assert "q_proj.weight is Int8Weight" in said
    assert "of which move" in said
