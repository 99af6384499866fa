"""Which validation of a run is its best, and the checkpoint of it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from zolit.callbacks.progress import say


@dataclass(frozen=True)
class Validation:
    """Figures of a validation.

    Attributes:
        step: optimizer steps made before it.
        val_loss: None if the module logs none.
        val_accuracy: None if the module logs none.
    """

    step: int
    val_loss: float | None = None
    val_accuracy: float | None = None

    def rank(self, by: str) -> tuple[float, float]:
        """Larger is better: the figure ``by``, then the other one. What is no number is worst."""
        loss = -_worst_if_unknown(self.val_loss, math.inf)
        accuracy = _worst_if_unknown(self.val_accuracy, -math.inf)
        return (loss, accuracy) if by == "val_loss" else (accuracy, loss)


def _worst_if_unknown(value: float | None, worst: float) -> float:
    return worst if value is None or math.isnan(value) else value


def best_validation(validations: Sequence[Validation], by: str) -> Validation | None:
    """The first of those that none surpasses; None without one.

    Args:
        validations: in order.
        by: ``val_loss`` or ``val_accuracy``; ties are decided by the other one.
    """
    best = None
    for one in validations:
        if best is None or one.rank(by) > best.rank(by):
            best = one
    return best


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the best validation, where Lightning's own knows no ties.

    Args:
        by: ``val_loss`` or ``val_accuracy``, which chooses; ties are decided by the other one.
        options: of `ModelCheckpoint`.

    Attributes:
        best: the validation that the checkpoint is of, None without one.
    """

    def __init__(self, by: str, **options: Any) -> None:
        mode = "min" if by.endswith("loss") else "max"
        # After every validation, also where Lightning takes an interval of 1 batch for an epoch.
        super().__init__(monitor=by, mode=mode, save_on_train_epoch_end=False, **options)
        self.best: Validation | None = None

    @property
    def state_key(self) -> str:
        # That of the class which runs had before: they can be resumed.
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._take_what_is_logged(trainer)
        super().on_validation_end(trainer, pl_module)

    def _take_what_is_logged(self, trainer: L.Trainer) -> None:
        """A module of the user's own may log the other figure alone."""
        names = {"val_loss": "min", "val_accuracy": "max"}
        logged = [name for name in names if name in trainer.callback_metrics]
        if trainer.sanity_checking or self.monitor in logged or not logged:
            return
        say(trainer, f"zolit: no {self.monitor} is logged, {logged[0]} chooses the best checkpoint")
        self.monitor, self.mode = logged[0], names[logged[0]]

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        if current is None:
            return False
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        found = Validation(
            trainer.global_step, figures.get("val_loss"), figures.get("val_accuracy")
        )
        by = str(self.monitor)
        if self.best is None or not self.best_k_models:
            better = super().check_monitor_top_k(trainer, current)
        else:
            better = found.rank(by) > self.best.rank(by)
        better = bool(trainer.strategy.reduce_boolean_decision(better))
        if better:
            self.best = found
        return better

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best": None if self.best is None else asdict(self.best)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best = _validation(state_dict.get("best")) if self.best_k_models else None


def _validation(kept: Any) -> Validation | None:
    """What a checkpoint remembers; None if it is of a run that did not, or was tampered with."""
    names = {"step", "val_loss", "val_accuracy"}
    return Validation(**kept) if isinstance(kept, dict) and set(kept) == names else None
