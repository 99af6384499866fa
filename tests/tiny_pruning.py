"""Pruning runs of a tiny model on a text that is made up."""

from pathlib import Path
from typing import Any

import torch

import zolit
from zolit.calibration.options import CalibrationText
from zolit.calibration.text import Window
from zolit.models.source import ModelSource
from zolit.strategies import NofM, Pruner, Wanda
from zolit.training.pruning import PruningModule


def write_text(file: Path) -> Path:
    """A text of some thousand tokens; the file."""
    text = "a film is bright and short or dull and long , and of the year {} ; "
    file.write_text("".join(text.format(n) for n in range(200)), encoding="utf-8")
    return file


def module_of(
    text: Path, llama: Path, pruner: Pruner | None = None, **options: Any
) -> PruningModule:
    """A module that prunes the tiny model to 2:4 on five windows."""
    calibration = CalibrationText(str(text), samples=5, length=24)
    given = {"calibration": calibration, "pattern": NofM(2, 4), "dtype": "float32", **options}
    return PruningModule(ModelSource(str(llama)), pruner or Wanda(), **given)


def data_of(text: Path, llama: Path) -> zolit.TextDataModule:
    """Eight windows to measure."""
    source = ModelSource(str(llama))
    return zolit.TextDataModule(source=source, test_text=str(text), length=24, test_windows=8)


def made_up_windows(count: int, length: int) -> list[Window]:
    """Windows of made-up tokens; the later ones are a little shorter."""
    ids = torch.arange(count * length).view(count, length) * 31 % 89 + 5
    return [Window(one[:-2] if number else one) for number, one in enumerate(ids)]
