"""zolit without the packages of its extras: what works, and the sentence where one is needed."""

import doctest
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from packaging.requirements import Requirement

sys.path.insert(0, str(Path(__file__).parent))
from cli_recipe import changed, recipe, write

import zolit.extras
from zolit.datamodules import FileRows, HubRows
from zolit.errors import UserError
from zolit.extras import EXTRAS, has_extra, require_extra
from zolit.models.adapters.peft_format import read_folder
from zolit.models.source import ModelSource

ROOT = Path(__file__).resolve().parents[1]


def without(monkeypatch: pytest.MonkeyPatch, extra: str) -> None:
    """As if the package were not installed."""
    monkeypatch.setitem(sys.modules, EXTRAS[extra], None)


def test_the_extras_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = project["optional-dependencies"]
    needed = {Requirement(line).name for line in project["dependencies"]}
    for extra, package in EXTRAS.items():
        assert [Requirement(line).name for line in groups[extra]] == [package]
        assert package not in needed
    assert doctest.testmod(zolit.extras).failed == 0


@pytest.mark.parametrize("extra", EXTRAS)
def test_a_missing_package(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_extra(extra)
    require_extra(extra, "it")
    without(monkeypatch, extra)
    assert not has_extra(extra)
    with pytest.raises(UserError) as said:
        require_extra(extra, "--format: writing it")
    assert str(said.value) == (
        f"--format: writing it needs the package {EXTRAS[extra]}, which is not installed; "
        f"pip install 'zolit[{extra}]' installs it"
    )


def test_a_gguf_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").touch()
    without(monkeypatch, "gguf")
    with pytest.raises(UserError, match=r"source\.gguf_file: .*zolit\[gguf\]"):
        ModelSource(str(tmp_path), gguf_file="model.gguf").load_config()


def test_an_adapter_in_pefts_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "peft")
    with pytest.raises(UserError, match=r"adapter\.start_from: .*zolit\[peft\]"):
        read_folder(str(tmp_path))


def test_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "rows.parquet"
    pd.DataFrame({"text": ["a"], "label": [0]}).to_parquet(file)
    without(monkeypatch, "hub")
    with pytest.raises(UserError, match=r"rows\.path: reading 'rows\.parquet'.*zolit\[hub\]"):
        FileRows(str(file)).read()
    with pytest.raises(UserError, match=r"rows\.name: .*'stanfordnlp/sst2'.*zolit\[hub\]"):
        HubRows("stanfordnlp/sst2").read()


BARE = f"""
import importlib.metadata, json, sys
# What only extras bring: an import raises ImportError, and who asks for a version gets none.
absent = {{{", ".join(map(repr, EXTRAS.values()))}, "pyarrow"}}
sys.modules.update(dict.fromkeys(absent))
found = importlib.metadata.Distribution.from_name
def from_name(name):
    if name in absent:
        raise importlib.metadata.PackageNotFoundError(name)
    return found(name)
importlib.metadata.Distribution.from_name = from_name
from zolit.cli import main
for command in json.loads(sys.argv[1]):
    main(command)
"""


def bare(*commands: list[str]) -> subprocess.CompletedProcess[str]:
    """One process for all of the commands: loading the libraries takes longer than any of them."""
    line = [sys.executable, "-c", BARE, json.dumps(commands)]
    return subprocess.run(line, capture_output=True, text=True)  # noqa: S603


def test_a_run_without_any_of_them(tiny_llama: Path, films_csv: Path, tmp_path: Path) -> None:
    file = write(
        changed(recipe(tiny_llama, films_csv), {"run.zero_shot": False}),
        tmp_path / "recipe.yaml",
    )
    run = tmp_path / "run"
    ended = bare(
        ["fit", "--config", file, "--run.run_dir", str(run)],
        ["export", str(run), "--to", str(tmp_path / "model")],
    )
    assert ended.returncode == 0, ended.stderr
    told = "no curves.png: matplotlib is not installed; pip install 'zolit[plots]' installs it"
    assert ended.stdout.count(told) == 1
    assert (run / "summary.json").exists()
    assert not (run / "curves.png").exists()
    assert (tmp_path / "model" / "model.safetensors").exists()
    for kind in ("gguf", "peft"):
        ended = bare(["export", str(run), "--format", kind, "--to", str(tmp_path / kind)])
        assert ended.returncode == 2
        assert ended.stderr.strip() == (
            f"zolit: error: --format: writing {kind} needs the package {kind}, which is not "
            f"installed; pip install 'zolit[{kind}]' installs it"
        )
