"""Loggers of other packages by configuration alone: TensorBoard's files, W&B without a network."""

import csv
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_recipe import changed, recipe, write

from zolit.cli import main


@pytest.fixture
def base(
    tmp_path: Path, tiny_llama: Path, films_csv: Path, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    monkeypatch.chdir(tmp_path)
    return changed(recipe(tiny_llama, films_csv), {"run.run_dir": "run"})


def logged(name: str) -> list[float]:
    """The values of a figure in metrics.csv, in their order."""
    with Path("run/metrics.csv").open(encoding="utf-8", newline="") as stream:
        return [float(row[name]) for row in csv.DictReader(stream) if row.get(name)]


def test_tensorboard(base: dict[str, Any]) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "logs"}}
    main(["fit", "--config", write(changed(base, {"trainer.logger": logger}), Path("one.yaml"))])
    [folder] = Path("logs/lightning_logs").iterdir()
    events = EventAccumulator(str(folder))
    events.Reload()
    names = set(events.Tags()["scalars"])
    assert {"train_loss", "step_ms", "val_loss", "val_accuracy", "test_loss"} <= names
    for name in ("train_loss", "val_loss", "test_accuracy"):
        values = [one.value for one in events.Scalars(name)]
        assert values == pytest.approx(logged(name), rel=1e-6)
    assert len(events.Scalars("train_loss")) == 3


def records(file: bytes) -> Iterator[bytes]:
    """The records of a W&B file: a head of seven bytes, then LevelDB's log format, whose blocks of
    32 KiB hold fragments with a head of checksum, length and kind (1 whole, 2 first, 4 last)."""
    place, parts = 7, b""
    while place + 7 <= len(file):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", file[place + 4 : place + 7])
        parts += file[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""


def test_wandb_without_a_network(base: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_CONSOLE", "off")
    options = {"project": "zolit", "name": "tiny", "save_dir": ".", "offline": True}
    logger = {"class_path": "WandbLogger", "init_args": options}
    main(["fit", "--config", write(changed(base, {"trainer.logger": logger}), Path("one.yaml"))])
    import wandb

    wandb.finish()
    [file] = Path("wandb").glob("offline-run-*/run-*.wandb")
    found: dict[str, list[float]] = {}
    for data in records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for item in record.history.item:
            key = item.key or "/".join(item.nested_key)
            if key in ("train_loss", "val_loss", "test_accuracy"):
                found.setdefault(key, []).append(float(item.value_json))
    for name, values in found.items():
        assert values == pytest.approx(logged(name), rel=1e-6)
    assert set(found) == {"train_loss", "val_loss", "test_accuracy"}


def test_both_beside_metrics(base: dict[str, Any]) -> None:
    pytest.importorskip("tensorboard")
    loggers = [
        {"class_path": "TensorBoardLogger", "init_args": {"save_dir": "logs", "name": name}}
        for name in ("one", "two")
    ]
    quick = {"trainer.logger": loggers, "run.zero_shot": False, "run.test_after_fit": False}
    main(["fit", "--config", write(changed(base, quick), Path("one.yaml"))])
    assert {path.name for path in Path("logs").iterdir()} == {"one", "two"}
    assert len(logged("train_loss")) == 3
