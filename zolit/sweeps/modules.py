"""What a sweep asks of the module of a point."""

from typing import Any

import lightning as L

from zolit.callbacks.judged import VAL, chooser, direction, evaluation_of
from zolit.sweeps.judging import Judge


def judge_of(module: L.LightningModule, best_by: str | None) -> Judge:
    """The judge of runs of a module.

    Args:
        module: of a point; its evaluation knows the figures.
        best_by: figure of validation that decides; None for the one that chooses the best
            checkpoint.
    """
    evaluation = evaluation_of(module)
    by = best_by or chooser(evaluation)
    names = [] if evaluation is None else [f"{VAL}{name}" for name in evaluation.names]
    return Judge(by, {name: direction(evaluation, name) for name in (by, *names)})


def steps_between(module: L.LightningModule, interval: Any) -> int:
    """Steps between two validations, 1 where their interval is no number of batches.

    Args:
        module: of a point.
        interval: ``val_check_interval`` of the trainer.
    """
    if isinstance(interval, bool) or not isinstance(interval, int):
        return 1
    return max(1, -(-interval // int(getattr(module, "micro_batches", 1))))
