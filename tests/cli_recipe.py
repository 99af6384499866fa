"""A recipe for the tiny model, and the command line run in this process."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from zolit.cli import main

Recipe = dict[str, Any]


def recipe(model: Path, rows: Path) -> Recipe:
    """Three steps of int8 fine-tuning, validated at the end."""
    return {
        "model": {
            "source": {"path": str(model)},
            "quantizer": {"class_path": "Int8", "init_args": {}},
            "perturber": {"class_path": "ScalePerturber", "init_args": {"eps": 0.01}},
            "optimizer": {"class_path": "ZOSGD", "init_args": {"lr": 0.01}},
            "kernels": "reference",
            "dtype": "float32",
        },
        "data": {
            "class_path": "PromptDataModule",
            "init_args": {
                "task": "rotten_tomatoes",
                "rows": {"class_path": "FileRows", "init_args": {"path": str(rows)}},
                "train_size": 16,
                "validation_size": 16,
                "test_size": 16,
                "batch_size": 4,
            },
        },
        "trainer": {"max_steps": 3, "val_check_interval": 3},
    }


def changed(base: Recipe, changes: dict[str, Any]) -> Recipe:
    """``base`` with values set at dotted keys; the value ``DELETE`` removes the key."""
    result = copy.deepcopy(base)
    for key, value in changes.items():
        *groups, leaf = key.split(".")
        place = result
        for group in groups:
            place = place.setdefault(group, {})
        if value is DELETE:
            del place[leaf]
        else:
            place[leaf] = value
    return result


DELETE = Ellipsis


def write(recipe: Recipe, file: Path) -> str:
    """Save as YAML; the file's path."""
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return str(file)


def refusal(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """The one sentence with which the command refuses these arguments."""
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    lines = capsys.readouterr().err.strip().splitlines()
    assert stop.value.code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("zolit: error: ")
    return lines[0]
