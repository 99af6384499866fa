"""The examples of docs/extending.md, taken from the page and run."""

import functools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tiny_recipes import tiny_pruning_options

from zolit.cli import run
from zolit.errors import UserError
from zolit.models.adapters.base import adapted, merge
from zolit.strategies import Losses, TwoPoint
from zolit.supports import ALL, All, Hashed

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "configs" / "quickstart.yaml"
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
BLOCKS = {
    name: text
    for _, name, text in re.findall(r"```(python|yaml)\n# (\S+\.(?:py|yaml))\n(.*?)```", PAGE, re.S)
}
EXAMPLES = {
    "my_quantizer": "ClippedInt8",
    "my_perturber": "FanInPerturber",
    "my_estimator": "FourPoint",
    "my_mask": "SparseOutsideAttention",
    "my_queries": "DoublingQueries",
    "my_adapter": "AfterLayers",
    "my_objective": "SomeTokens",
    "my_evaluation": "Calibration",
    "my_callback": "StopAtAccuracy",
}

PRUNING = {"my_pruner": "RelativeImportance"}
"""Examples that go with a recipe of zolit prune."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path, films_csv: Path) -> Path:
    """A user's folder: the files of the page, and what makes the quickstart recipe tiny."""
    folder = tmp_path_factory.mktemp("user")
    for name, text in BLOCKS.items():
        (folder / name).write_text(f"# {name}\n{text}", encoding="utf-8")
    sizes = {"train_size": 16, "validation_size": 8, "test_size": 8, "batch_size": 4}
    own_rows = {"class_path": "FileRows", "init_args": {"path": str(films_csv), "package": None}}
    source = {"path": str(tiny_llama), "package": None, "gguf_file": None}
    tiny = {
        "model": {"source": source, "kernels": "reference", "dtype": "float32", "tune": ["linear"]},
        "data": {"init_args": {**sizes, "rows": own_rows}},
        "trainer": {"max_steps": 2, "val_check_interval": 2},
    }
    (folder / "tiny.yaml").write_text(yaml.safe_dump(tiny), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run_example(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Runs the recipe of an example on top of the quickstart, once, and returns the command."""

    @functools.cache
    def run_example(name: str, *args: str) -> Any:
        recipes = (QUICKSTART, folder / "tiny.yaml", folder / f"{name}.yaml")
        files = [part for path in recipes for part in ("--config", str(path))]
        run_dir = str(tmp_path_factory.mktemp("run") / "run")
        return run(args=["fit", *files, "--run.run_dir", run_dir, *args])

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield run_example


def test_the_page_shows_each_kind() -> None:
    shown = {**EXAMPLES, **PRUNING}
    assert set(BLOCKS) == {f"{name}.{end}" for name in shown for end in ("py", "yaml")}
    for name, part in shown.items():
        text = BLOCKS[f"{name}.py"]
        assert f"class {part}(" in text
        code = text[text.index(f"class {part}(") :].rstrip()
        assert code.count("\n") < 30
        assert f"{name}.{part}" in BLOCKS[f"{name}.yaml"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_two_steps(run_example: Any, name: str) -> None:
    cli = run_example(name)
    assert cli.trainer.global_step == 2
    assert cli.model.skipped_queries == 0
    parts = (*vars(cli.model).values(), *cli.trainer.callbacks)
    assert EXAMPLES[name] in {type(part).__name__ for part in parts}


@pytest.mark.parametrize("name", PRUNING)
def test_pruning(
    name: str, folder: Path, tmp_path: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(folder)
    shipped = ROOT / "configs" / "wandapp" / "wanda.yaml"
    tiny = tmp_path / "tiny.yaml"
    tiny.write_text(yaml.safe_dump(tiny_pruning_options(shipped, tmp_path, tiny_llama)))
    recipes = (shipped, tiny, folder / f"{name}.yaml")
    files = [part for path in recipes for part in ("--config", str(path))]
    cli = run(args=["prune", *files, "--run.run_dir", str(tmp_path / "run")])
    assert cli.trainer.global_step == 2
    assert type(cli.model.pruner).__name__ == PRUNING[name]
    zeros = sum(int((one == 0).sum()) for one in cli.model.weights)
    assert 2 * zeros == sum(one.numel() for one in cli.model.weights)


def test_clipping_quantizer(run_example: Any) -> None:
    weight = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0))
    quantizer = run_example("my_quantizer").model.quantizer
    codes = quantizer.store(weight, "weight").codes
    at_the_end = (codes.abs() == 127).sum(dim=1)
    assert quantizer.keep == 0.995
    assert ((at_the_end >= 6) & (at_the_end <= 8)).all()  # 0.5 % of 1000, and ties of rounding


def test_perturber_refuses_integer_products(run_example: Any) -> None:
    # The quickstart's group size would be carried over to the other class.
    swap = (
        *("--model.quantizer", "Int8", "--model.quantizer.activations", "int8"),
        *("--model.quantizer.group_size", "null"),
    )
    with pytest.raises(ValueError, match="use CodePerturber with it"):
        run_example("my_perturber", *swap)


def test_four_point_estimate_agrees_with_two_point(run_example: Any) -> None:
    cli = run_example("my_estimator")
    module = cli.model
    batch = next(iter(cli.datamodule.train_dataloader()))
    with torch.no_grad():
        one, two = (
            kind.estimate(
                Losses(module.objective, module.network, batch),
                module.reading,
                [1, 2, 3],
                0.02,
                True,
            ).values
            for kind in (module.estimator, TwoPoint())
        )
    torch.testing.assert_close(one, two, rtol=0.05, atol=0.02)


def test_masked_coordinates_stay(run_example: Any) -> None:
    module = run_example("my_mask").model
    kinds = set()
    for weight in module.weights:
        rest = weight.dense().clone()
        with torch.no_grad(), module.reading.perturbed(1, 4.0, 1):
            moved = int((weight.dense() != rest).sum())
        if ".self_attn." in weight.path:
            assert weight.site.support == ALL
            assert moved > 0.8 * rest.numel()
        else:
            # About 2000, less what rounds to nothing on the grid of a direction.
            assert 1400 < moved < 2200
        kinds.add(type(weight.site.support))
    assert kinds == {All, Hashed}


def test_queries_double(run_example: Any) -> None:
    scheduler = run_example("my_queries").model.query_scheduler
    assert [scheduler.queries(step, 0) for step in range(4)] == [1, 2, 4, 4]


def test_adapter_moves_beside_the_layers(run_example: Any) -> None:
    network = run_example("my_adapter").model.network
    found = {path: adapter for path, _, adapter in adapted(network)}
    assert len(found) == 4
    for adapter in found.values():
        assert adapter.up.weight.dense().any()  # it started at zero
    out = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
    down, up = adapter.down.weight.dense(), adapter.up.weight.dense()
    expected = out + (out @ down.T).relu() @ up.T
    torch.testing.assert_close(adapter(None, out), expected)
    with pytest.raises(UserError, match="cannot be merged"):
        merge(network)


def test_an_objective_draws_alike_for_all_reads_of_a_step(run_example: Any) -> None:
    cli = run_example("my_objective")
    objective, network = cli.model.objective, cli.model.network
    batch = next(iter(cli.datamodule.train_dataloader()))
    one, again, other = (objective.draw(batch, key) for key in (1, 1, 8))
    assert torch.equal(one[2], again[2])
    assert not torch.equal(one[2], other[2])
    with torch.no_grad():
        torch.testing.assert_close(*objective.losses(network, one, 2))
    assert set(cli.trainer.callback_metrics) == {"test_loss"}, "of MeanLoss, after the last test"


def test_an_evaluation_chooses_by_its_own_figure(run_example: Any) -> None:
    trainer = run_example("my_evaluation").trainer
    best = trainer.checkpoint_callback
    assert (best.monitor, best.mode) == ("val_calibration_error", "min")
    assert {"test_loss", "test_calibration_error"} <= set(trainer.callback_metrics)
    with pytest.raises(UserError, match="Calibration needs an objective with what Scored has"):
        run_example("my_evaluation", "--model.objective", "my_objective.SomeTokens")


def test_callback_stops_the_run(run_example: Any) -> None:
    stop = ("--trainer.callbacks.target", "0.0", "--trainer.max_steps", "6")
    assert run_example("my_callback", *stop).trainer.global_step == 2


def test_launch_line(folder: Path) -> None:
    """The command on the page finds a class in the folder that it is started from."""
    line = next(line for line in PAGE.splitlines() if " zolit fit " in line)
    setting, command, *args = line.split()
    name, value = setting.split("=")
    args[args.index("--config") + 1] = str(QUICKSTART)
    program = [str(Path(sys.executable).with_name(command)), *args, "--print_config"]
    shown = subprocess.run(  # noqa: S603
        program,
        cwd=folder,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    printed = yaml.safe_load(shown.stdout)
    assert printed["model"]["estimator"]["class_path"] == "my_estimator.FourPoint"
