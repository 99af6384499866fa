"""A run that moves a few entries of an int4 model, from the command line to a published file."""

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, write

from zolit.cli import main

RUN = {
    "trainer.max_steps": 4,
    "trainer.val_check_interval": 2,
    "trainer.check_val_every_n_epoch": None,
    "trainer.enable_progress_bar": False,
    "run.zero_shot": False,
    "run.test_after_fit": False,
    "model.quantizer": {"class_path": "Int4", "init_args": {"group_size": 32}},
    "model.perturber": {"class_path": "SparsePerturber"},
    "model.mask": {"class_path": "RandomMask", "init_args": {"fraction": 0.02}},
    "model.optimizer.init_args.lr": 1e-3,
    "model.dtype": "bfloat16",
}


def test_fitted_verified_published_and_exported(
    tiny_llama: Path, films_csv: Path, tmp_path: Path, capsys: Any
) -> None:
    run = tmp_path / "run"
    options = {**RUN, "run.run_dir": str(run)}
    file = write(changed(recipe(tiny_llama, films_csv), options), tmp_path / "recipe.yaml")
    main(["fit", "--config", file])
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert {name.rpartition(".")[2] for name in last} == {"values"}
    main(["verify", str(run)])
    assert "weights as recorded after steps: 2, 4" in capsys.readouterr().out

    main(["publish", str(run), "--to", str(tmp_path / "tiny.zolit"), "--until", "4"])
    where = ["--model", str(tiny_llama), "--to", str(tmp_path / "mine")]
    main(["apply", str(tmp_path / "tiny.zolit"), *where])
    mine = torch.load(tmp_path / "mine" / "checkpoints" / "last.ckpt", weights_only=True)
    assert all(torch.equal(last[name], one) for name, one in mine["state_dict"].items())

    main(["export", str(run), "--to", str(tmp_path / "plain")])
    main(["export", str(run), "--format", "torchao", "--to", str(tmp_path / "torchao")])
    said = capsys.readouterr().err
    assert "have floats beside their codes, which the run kept as float32" in said
    assert "(SparseOverlay of Int4Weight) have no form that torchao loads" in said
