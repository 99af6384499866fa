"""Repairs the state that Lightning's fit loop saves, so that a resumed run continues correctly."""

from typing import Any


def mended_loop_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a finished fit loop, as if it were saved at the end of its last training batch.

    Lightning counts an epoch as ended even if ``max_steps`` cut it short: a run that is resumed
    from a checkpoint saved after that would skip the rest of the epoch. From one saved after a
    whole epoch it would skip the next epoch. Any other state is returned unchanged.
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
            "total": batches_at_end(batches["total"]["ready"]),
            "current": batches_at_end(batches["current"]["ready"]),
        },
        "epoch_loop.state_dict": {"_batches_that_stepped": batches["total"]["ready"] - 1},
    }


def batches_at_end(count: int) -> dict[str, int]:
    """Lightning's counters of batches in the hooks at the end of a training batch.

    Args:
        count: batches that were begun, that one included; it is completed only after the hooks.
    """
    return {"ready": count, "started": count, "processed": count, "completed": count - 1}
