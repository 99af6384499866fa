"""Every shipped recipe runs: parsed by the real command line, then two steps on a tiny model."""

import json
from pathlib import Path

import pytest
import yaml
from tiny_recipes import (
    CONFIGS,
    IDS,
    MASKED,
    PRUNING,
    ROOT,
    SHIPPED,
    tiny_options,
    tiny_pruning_options,
    write_rows,
)

from zolit.cli import run


def test_recipes_are_found() -> None:
    folders = {str(path.parent.relative_to(ROOT)) for path in SHIPPED}
    kinds = ("mezo", "quzo", "qzo", "senszoq", "tasks", "wandapp")
    assert folders >= {"configs", *(f"configs/{kind}" for kind in kinds)}
    files = [p for p in (ROOT / "configs").rglob("*") if p.is_file()]
    assert sorted(files) == SHIPPED, "a file in configs/ that no test reads"
    assert set(IDS) >= MASKED


@pytest.mark.parametrize("path", SHIPPED, ids=[one.stem for one in SHIPPED])
def test_header(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    name = path.relative_to(ROOT).as_posix()
    command = "prune" if path in PRUNING else "fit"
    assert lines[0] == f"# zolit {command} --config {name}"
    assert lines[1].startswith("# Measured: ")
    header = [line for line in lines[: lines.index("model:")] if line.startswith("#")]
    assert any("arXiv" in line for line in header)
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("path", CONFIGS, ids=IDS)
def test_two_steps(path: Path, tmp_path: Path, tiny_llama: Path, tiny_roberta: Path) -> None:
    changes = tiny_options(path, tmp_path, tiny_llama, tiny_roberta)
    changes["trainer"] = {"max_steps": 2, "val_check_interval": 2}
    changes["run"] = {"run_dir": str(tmp_path / "run")}
    override = tmp_path / "tiny.yaml"
    override.write_text(yaml.safe_dump(changes), encoding="utf-8")
    cli = run(args=["fit", "--config", str(path), "--config", str(override)])
    assert cli.trainer.global_step == 2
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "finished"
    assert summary["steps"] == 2
    assert summary["skipped_queries"] == 0
    figures = summary["final"]
    assert 0 <= figures["test_f1" if "test_f1" in figures else "test_accuracy"] <= 1


@pytest.mark.parametrize("path", PRUNING, ids=[one.stem for one in PRUNING])
def test_pruning_recipes(path: Path, tmp_path: Path, tiny_llama: Path) -> None:
    changes = tiny_pruning_options(path, tmp_path, tiny_llama)
    changes["run"] = {"run_dir": str(tmp_path / "run")}
    override = tmp_path / "tiny.yaml"
    override.write_text(yaml.safe_dump(changes), encoding="utf-8")
    cli = run(args=["prune", "--config", str(path), "--config", str(override)])
    assert cli.trainer.global_step == 2
    summary = json.loads((tmp_path / "run" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["status"], summary["steps"], summary["zeros"]) == ("finished", 2, 0.5)
    assert summary["final"]["test_perplexity"] != summary["zero_shot"]["test_perplexity"]


def test_parts_are_swapped_on_the_command_line(tmp_path: Path, tiny_llama: Path) -> None:
    rows = write_rows(tmp_path / "rows.csv", "rotten_tomatoes")
    data = tmp_path / "data.yaml"
    where = {"path": str(rows), "package": None}
    own = {"class_path": "FileRows", "init_args": where}
    data.write_text(yaml.safe_dump({"data": {"init_args": {"rows": own}}}), encoding="utf-8")
    args = (
        *("--config", str(ROOT / "configs" / "quickstart.yaml")),
        *("--model.perturber", "CodePerturber", "--model.perturber.eps", "0.5"),
        *("--model.quantizer", "Int4", "--model.quantizer.group_size", "32"),
        *("--model.optimizer", "ZOSignSGD", "--model.optimizer.lr", "1e-3"),
        *("--model.query_scheduler", "ConstantQueries", "--model.query_scheduler.n", "2"),
        *("--model.source.path", str(tiny_llama), "--model.source.package", "null"),
        *("--model.source.gguf_file", "null", "--model.kernels", "reference"),
        *("--model.tune", "[linear]"),
        # A string option two classes deep would read null as "None", so the data stand in a file.
        *("--config", str(data), "--data.train_size", "16"),
        *("--data.validation_size", "8", "--data.test_size", "8", "--data.batch_size", "4"),
        *("--trainer.max_steps", "1", "--trainer.val_check_interval", "1"),
        *("--run.run_dir", str(tmp_path / "run")),
    )
    cli = run(args=["fit", *args])
    parts = (cli.model.perturber, cli.model.quantizer, cli.trainer.optimizers[0])
    assert [type(part).__name__ for part in parts] == ["CodePerturber", "Int4", "ZOSignSGD"]
    assert cli.model.perturber.eps == 0.5
    assert cli.model.quantizer.group_size == 32
    assert cli.trainer.optimizers[0].defaults["lr"] == 1e-3
    assert cli.model.query_scheduler.n == 2
