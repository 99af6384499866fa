"""The one door to the counters of Lightning's fit loop."""

from typing import Any

import lightning as L

from zolit.journal.format import Position


def position(trainer: L.Trainer) -> Position:
    """Where the run stands in its data, asked at the end of a training batch."""
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
        trainer: that will go on from there.
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
            "total": _batches(place.batches),
            "current": _batches(place.batch),
            "is_last_batch": place.last,
        },
        "epoch_loop.manual_optimization.optim_step_progress": {
            "total": stepped,
            "current": dict(stepped),
        },
    }


def _batches(count: int) -> dict[str, int]:
    # A batch is completed only after the hooks of its end.
    return {"ready": count, "started": count, "processed": count, "completed": count - 1}


def mended_loop_state(state: dict[str, Any]) -> dict[str, Any]:
    """State of a fit loop whose run is over, as if saved at the end of its last training batch.

    Lightning ends the epoch also where ``max_steps`` cuts it short: a checkpoint saved after that
    would go on with the next epoch, and one saved after a whole epoch would take the next one for
    finished. Any other state is handed back as it is.
    """
    batches, epochs = state["epoch_loop.batch_progress"], state["epoch_progress"]
    over = epochs["total"]["completed"] == epochs["total"]["ready"]
    if not over or batches["current"]["ready"] == 0:
        return state
    started = {"ready", "started"}
    return {
        **state,
        "epoch_progress": {
            kind: {name: count - (name not in started) for name, count in counts.items()}
            for kind, counts in epochs.items()
        },
        "epoch_loop.batch_progress": {
            **batches,
            "total": _batches(batches["total"]["ready"]),
            "current": _batches(batches["current"]["ready"]),
        },
        "epoch_loop.state_dict": {"_batches_that_stepped": batches["total"]["ready"] - 1},
    }
