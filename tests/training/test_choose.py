"""The module that a recipe names: by short name, by import path, in either form."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, write
from lightning.pytorch.demos.boring_classes import BoringModel

from zolit.cli import main, run
from zolit.commands.given import as_now
from zolit.errors import UserError
from zolit.recipes.parts import module_of
from zolit.training.choose import class_path_of, module_class
from zolit.training.module import TuningModule
from zolit.training.zero_order import ZeroOrderModule


class Quiet(ZeroOrderModule):
    """A module of the user's own."""


OWN = class_path_of(Quiet)


def test_names_and_paths() -> None:
    assert module_class(None) is ZeroOrderModule
    assert module_class(None, BoringModel) is BoringModel
    assert module_class("ZeroOrderModule", BoringModel) is ZeroOrderModule
    assert module_class("Quiet") is Quiet
    assert module_class(OWN) is Quiet
    assert module_class(class_path_of(ZeroOrderModule)) is ZeroOrderModule


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("ZeroOrdr", "is not a known name; nearest: ZeroOrderModule"),
        ("os.getcwd", "is nothing that a configuration may name"),
        ("nowhere.Module", "cannot be imported"),
        ("torch.nn.Linear", "is no LightningModule"),
        ("zolit.optim.missing", "is no LightningModule"),
        (class_path_of(TuningModule), "makes no steps"),
    ],
)
def test_what_is_no_module_is_refused(path: str, reason: str) -> None:
    with pytest.raises(UserError, match=f"class_path: '{path}' {reason}"):
        module_class(path)


def test_options_in_either_form() -> None:
    flat = {"model": {"class_path": "A", "seed": 1}, "data": 2}
    assert as_now(flat) is flat
    nested = {"model": {"class_path": "A", "init_args": {"seed": 1}}, "data": 2}
    assert as_now(nested) == flat
    assert as_now({"model": "A"}) == {"model": {"class_path": "A"}}
    assert as_now(None) is None


@pytest.mark.parametrize("nested", [False, True])
def test_a_recipe_names_its_module(
    nested: bool, tmp_path: Path, tiny_llama: Path, films_csv: Path
) -> None:
    """Options of the command line are as ever; the run's configuration names the class."""
    base = recipe(tiny_llama, films_csv)
    model: dict[str, Any] = {"class_path": OWN, "init_args": base["model"]}
    base["model"] = model if nested else {"class_path": OWN, **base["model"]}
    base["trainer"]["max_steps"] = 1
    config, folder = write(base, tmp_path / "recipe.yaml"), tmp_path / "run"
    args = ["--run.zero_shot=false", "--run.test_after_fit=false", "--run.run_dir", str(folder)]
    cli = run(args=["fit", "--config", config, "--model.optimizer.lr", "0.5", *args])
    assert type(cli.model) is Quiet
    assert cli.trainer.optimizers[0].param_groups[0]["lr"] == 0.5
    kept = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model"]
    assert kept["class_path"] == OWN
    assert "init_args" not in kept
    assert type(module_of((folder / "config.yaml").read_text(encoding="utf-8"))) is Quiet
    # The folder's own configuration is enough to go on, and the class is part of the recipe.
    again = run(args=["fit", "--resume", str(folder), "--trainer.max_steps", "2"])
    assert (type(again.model), again.trainer.global_step) == (Quiet, 2)


def test_another_class_does_not_go_on_with_a_run(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = changed(recipe(tiny_llama, films_csv), {"trainer.max_steps": 1})
    config, folder = write(base, tmp_path / "recipe.yaml"), tmp_path / "run"
    quiet = ["--run.zero_shot=false", "--run.test_after_fit=false"]
    run(args=["fit", "--config", config, "--run.run_dir", str(folder), *quiet])
    kept = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["model"]
    assert "class_path" not in kept, "a recipe without one means ZeroOrderModule"
    more = ["--trainer.max_steps", "2", "--model.class_path", OWN]
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--resume", str(folder), *more])
    assert stop.value.code == 2
    assert "were made with another recipe (model.class_path" in capsys.readouterr().err


def test_modules_take_the_optimizers_that_they_declare() -> None:
    class Gradients(TuningModule):
        """Steps on gradients, as a first-order baseline would."""

    from torch.optim import AdamW

    from zolit.optim import ZOSGD, ZOSignSGD

    for one in (ZOSGD, ZOSignSGD):
        assert ZeroOrderModule.takes_optimizer(one)
        assert not Gradients.takes_optimizer(one)
    assert Gradients.takes_optimizer(AdamW)
    assert not ZeroOrderModule.takes_optimizer(AdamW)
