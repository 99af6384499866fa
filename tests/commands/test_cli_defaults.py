"""A recipe that leaves rates open: the run has numbers, and is gone on with by either file."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_recipe import DELETE, changed, recipe, write

from zolit.commands.parser import run
from zolit.runs.journal import read_journal
from zolit.training.dtype import faster_dtype


@pytest.fixture
def open_recipe(tmp_path: Path, tiny_llama: Path, films_csv: Path) -> str:
    changes = {
        "model.optimizer": DELETE,
        "model.dtype": None,
        "model.perturber": {"class_path": "CodePerturber", "init_args": {}},
        "run.run_dir": str(tmp_path / "run"),
    }
    return write(changed(recipe(tiny_llama, films_csv), changes), tmp_path / "recipe.yaml")


def options(text: str) -> tuple[Any, Any]:
    model = yaml.safe_load(text)["model"]
    assert model["dtype"] == faster_dtype()
    return model["optimizer"]["init_args"]["lr"], model["perturber"]["init_args"]["eps"]


def test_numbers_are_written_down(
    open_recipe: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cli = run(args=["fit", "--config", open_recipe])
    lr, eps = options((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert (lr, eps) == (cli.model.default_lr, 1.0)
    journal = read_journal(tmp_path / "run" / "journal.bin")
    assert journal.header is not None
    assert options(journal.header.config) == (lr, eps)
    assert {step.rates for step in journal.steps} == {(lr,)}
    out = capfd.readouterr().out
    assert f"lr {lr:g}, the default of CodePerturber" in out
    assert f"dtype {faster_dtype()}: this machine multiplies" in out
    for steps, config in ((4, open_recipe), (5, str(tmp_path / "run" / "config.yaml"))):
        again = ["fit", "--config", config, "--resume", str(tmp_path / "run")]
        run(args=[*again, f"--trainer.max_steps={steps}"])
        told = capfd.readouterr()
        assert "follow other options" not in told.err
