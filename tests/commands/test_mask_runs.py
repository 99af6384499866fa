"""A run under a mask that reads a file: the same coordinates from any folder, and no others."""

import sys
from pathlib import Path

import pytest
import yaml
from cli_recipe import changed, recipe, refusal, write
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[1] / "strategies"))
from test_dominant_block import folder_with_outlier

from zolit.checkpoints.file import read_checkpoint
from zolit.cli import main

QUIET = {"trainer.enable_progress_bar": False, "run.zero_shot": False, "run.test_after_fit": False}


def test_a_run_under_a_saliency_is_replayed_with_its_choice_alone(
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
    assert "they also need" not in capsys.readouterr().out
    (here / "rows.saliency").unlink()
    main(["verify", str(here / "masked")])

    # What the mask chose is in the folder of the run, and its digest in the journal.
    file = here / "masked" / "mask.safetensors"
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    name = next(one for one in tensors if one.endswith("q_proj.weight"))
    tensors[name][0, 0] ^= 1
    save_file(tensors, file, metadata)
    said = refusal(capsys, "verify", str(here / "masked"))
    assert "its mask chose other coordinates of model.layers." in said
    tensors[name] = tensors[name][:3].clone()
    save_file(tensors, file, metadata)
    assert "mask: gives " in refusal(capsys, "verify", str(here / "masked"))


def test_a_block_that_was_found_is_not_looked_for_again(
    tiny_llama: Path,
    films_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The run's config.yaml names it: neither a replay nor a resumption needs the text."""
    monkeypatch.chdir(tmp_path)
    model = folder_with_outlier(tiny_llama, tmp_path / "model", block=1)
    Path("text.txt").write_text(20 * "a film is bright and short ")
    given = {"text": "text.txt", "samples": 3, "length": 12}
    mask = {"class_path": "DominantBlock", "init_args": given}
    options = {**QUIET, "model.mask": mask, "run.run_dir": "run"}
    config = write(changed(recipe(model, films_csv), options), Path("dominant.yaml"))
    main(["fit", "--config", config])
    made = yaml.safe_load(Path("run/config.yaml").read_text())["model"]["mask"]["init_args"]
    assert (made["block"], made["text"]) == (1, str(tmp_path / "text.txt"))
    saved = read_checkpoint(Path("run/checkpoints/last.ckpt"))["state_dict"]
    assert len(saved) == 7
    assert all(name.startswith("model.layers.1.") for name in saved)

    Path("text.txt").unlink()
    main(["fit", "--resume", "run", "--trainer.max_steps", "6"])
    capsys.readouterr()
    main(["publish", "run", "--to", "run.zolit"])  # which replays it
    assert "they also need" not in capsys.readouterr().out
    assert "text must be a file of calibration text" in refusal(
        capsys, "fit", "--config", config, "--run.run_dir", "other"
    )
    assert not Path("other").exists()
    main(["estimate", "--config", config])
    assert "all that tune names counts as moving" in caplog.text
