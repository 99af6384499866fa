"""Keeps the last checkpoint of a run that has no journal, so that it can be resumed from it."""

import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn

from zolit.callbacks.progress import say
from zolit.checkpoints.continuing import check_loops, check_schedule, check_states
from zolit.datamodules.epochs import ResumableLoader
from zolit.runs.journal.position import loop_state, position
from zolit.runs.journal.records import Position
from zolit.runs.keeping import StopRequested
from zolit.runs.rebuild import optimizer_and_schedule
from zolit.training.module import TuningModule

_NO_JOURNAL = (
    "no journal, as these steps do not follow from a few numbers: a run that ends early goes on "
    "from its last validation, or from where a signal ended it"
)


class LastCheckpoint(ModelCheckpoint):
    """Writes ``last.ckpt`` after each validation, and when a signal ends the run between two steps.

    A run that is killed goes on from the last validation. Its rows are named in the checkpoint, so
    that a resumed run can tell whether it reads the same ones.

    Args:
        options: of Lightning's ``ModelCheckpoint``.

    Example:
        >>> LastCheckpoint(filename="last").filename
        'last'
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._place: Position | None = None
        self._stopping = False
        self._order: dict[str, Any] = {}
        self._pace: dict[str, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        say(trainer, _NO_JOURNAL)
        loader = trainer.train_dataloader
        self._order = loader.order() if isinstance(loader, ResumableLoader) else {}
        epoch, each = trainer.num_training_batches, getattr(pl_module, "micro_batches", 1)
        self._pace = {"micro_batches": each, "epoch": epoch if math.isfinite(epoch) else each}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        self._place = position(trainer)
        super().on_train_batch_end(trainer, pl_module, *args, **kwargs)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        checkpoint["zolit_rows"], checkpoint["zolit_pace"] = self._order, self._pace
        if self._stopping and self._place is not None:
            # Lightning's own counters already count the batch that will not run.
            resumable = isinstance(trainer.train_dataloader, ResumableLoader)
            where = trainer, self._place, trainer.global_step, resumable
            checkpoint["loops"]["fit_loop"] = loop_state(*where)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check the state of loops and optimizers, which Lightning would load unchecked."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        if isinstance(pl_module, TuningModule) and trainer.state.fn == TrainerFn.FITTING:
            optimizer, schedule = optimizer_and_schedule(pl_module)
            check_states(checkpoint, optimizer)
            check_schedule(checkpoint, schedule)
            check_loops(checkpoint, trainer)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        super().on_exception(trainer, pl_module, exception)
        if not isinstance(exception, StopRequested) or self._place is None:
            return
        self._stopping = True
        try:
            trainer.save_checkpoint(self.format_checkpoint_name({}))
        finally:
            self._stopping = False
