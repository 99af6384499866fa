"""metrics.csv of a run. It is read without torch or Lightning: ``zolit runs`` lists many runs."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning.pytorch.loggers import CSVLogger
    from torch import Tensor

Row = dict[str, float]
"""Figures by name, with the ``step`` of the logger."""


def read_rows(path: Path, batches: int | None = None) -> list[Row]:
    """Rows of the first batches; none if there is no such file.

    Figures that were not logged are left out, and so is a row that a kill cut short.

    Args:
        path: the file.
        batches: how many; None for all.
    """
    if not path.exists():
        return []
    rows = []
    with path.open(encoding="utf-8", newline="", errors="replace") as file:
        for line in csv.DictReader(file):
            try:
                row = {name: float(value) for name, value in line.items() if value}
            except (TypeError, ValueError):
                continue
            if batches is None or row.get("step", batches) < batches:
                rows.append(row)
    return rows


def write_rows(logger: "CSVLogger", rows: list[Row]) -> None:
    """Log rows again; a logger that is made anew removes the file that it finds."""
    for row in rows:
        figures: dict[str, Tensor | float] = {k: v for k, v in row.items() if k != "step"}
        logger.log_metrics(figures, int(row["step"]))
    logger.save()


def csv_logger(folder: Path) -> "CSVLogger":
    """A logger that writes ``metrics.csv`` into a run's folder, each row at once: a run that is
    killed keeps them."""
    from lightning.pytorch.loggers import CSVLogger

    # Without name and version it writes to the folder itself.
    return CSVLogger(folder, name="", version="", flush_logs_every_n_steps=1)
