"""A module that steps by hand and logs what a zeroth-order run logs."""

from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader


class Toy(L.LightningModule):
    def __init__(self, fail_at: int | None = None, error: type[BaseException] = ValueError) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seed = 3
        self.fail_at = fail_at
        self.error = error

    def training_step(self, batch: Any, batch_idx: int) -> None:
        if self.global_step == self.fail_at:
            raise self.error("toy")
        self.optimizers().step()
        self.log("train_loss", 1.0 / self.global_step)
        self.log("step_ms", 10.0 * self.global_step)
        self.log("skipped_queries", 1.0)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", 0.5)
        self.log("val_accuracy", 0.25)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", float("inf") if self.global_step else 2.0)
        self.log("test_accuracy", 0.75 if self.global_step else 0.5)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> DataLoader[Any]:
    rows: Any = torch.zeros(8, 1)
    return DataLoader(rows, batch_size=1)


def trainer(*callbacks: L.Callback, **options: Any) -> L.Trainer:
    saves = any(isinstance(one, ModelCheckpoint) for one in callbacks)
    options = {"max_steps": 6, "val_check_interval": 3, **options}
    return L.Trainer(
        accelerator="cpu",
        devices=1,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=saves,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        enable_progress_bar=any("Progress" in type(one).__name__ for one in callbacks),
        **options,
    )
