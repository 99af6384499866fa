"""Reads and writes the counters of Lightning's fit loop; no other file does."""

from typing import Any

import lightning as L

from zolit.runs.journal.records import Position
from zolit.training.loop_state import batches_at_end


def position(trainer: L.Trainer) -> Position:
    """The position of a run in its data, at the end of a training batch."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    return Position(
        trainer.current_epoch,
        progress.current.ready,
        progress.total.ready,
        bool(progress.is_last_batch),
    )


def loop_state(trainer: L.Trainer, place: Position, steps: int, resumable: bool) -> dict[str, Any]:
    """State of the fit loop as Lightning saves it at the end of a training batch.

    Args:
        trainer: that will continue from there.
        place: in the data.
        steps: optimizer steps that were made.
        resumable: whether the training loader takes a state (`ResumableLoader`).
    """
    epoch = {"ready": place.epoch + 1, "started": place.epoch + 1}
    epoch |= {"processed": place.epoch, "completed": place.epoch}
    stepped = {"ready": steps, "completed": steps}
    loader = [{"epoch": place.epoch, "batches": place.batch}]
    return {
        **trainer.fit_loop.state_dict(),
        "state_dict": {"combined_loader": loader} if resumable else {},
        "epoch_progress": {"total": epoch, "current": dict(epoch)},
        "epoch_loop.state_dict": {"_batches_that_stepped": place.batches - 1},
        "epoch_loop.batch_progress": {
            "total": batches_at_end(place.batches),
            "current": batches_at_end(place.batch),
            "is_last_batch": place.last,
        },
        "epoch_loop.manual_optimization.optim_step_progress": {
            "total": stepped,
            "current": dict(stepped),
        },
    }
