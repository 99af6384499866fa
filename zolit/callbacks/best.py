"""Which validation of a run is its best, and the checkpoint of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from zolit.callbacks.judged import chooser, direction, evaluation_of, validation_figures
from zolit.callbacks.progress import say
from zolit.evaluations import Evaluation, Mode


@dataclass(frozen=True)
class Validation:
    """Figures of a validation.

    Attributes:
        step: optimizer steps made before it.
        figures: by name, with their stage, such as ``val_loss``.
    """

    step: int
    figures: Mapping[str, float] = field(default_factory=dict)

    def rank(self, by: str, modes: Mapping[str, Mode]) -> tuple[float, ...]:
        """Larger is better: the figure ``by``, then the others. What is no number is worst.

        Args:
            by: name of the figure that chooses.
            modes: whether each figure is better when it is smaller or larger.
        """
        names = [by, *(name for name in modes if name != by)]
        return tuple(_larger_is_better(self.figures.get(name), modes[name]) for name in names)

    def flat(self) -> dict[str, Any]:
        """Step and figures in one mapping, as summary.json and checkpoints keep them."""
        return {"step": self.step, **self.figures}


def _larger_is_better(value: float | None, mode: Mode) -> float:
    if value is None or math.isnan(value):
        return -math.inf
    return -value if mode == "min" else value


def best_validation(
    validations: Sequence[Validation], by: str, evaluation: Evaluation | None = None
) -> Validation | None:
    """The first of those that none surpasses; None without one.

    Args:
        validations: in order.
        by: the figure that chooses, such as ``val_loss``; ties are decided by the others.
        evaluation: that made them, which knows the figures' directions.
    """
    best, modes = None, _modes(by, validations, evaluation)
    for one in validations:
        if best is None or one.rank(by, modes) > best.rank(by, modes):
            best = one
    return best


def _modes(
    by: str, validations: Sequence[Validation], evaluation: Evaluation | None
) -> dict[str, Mode]:
    names = dict.fromkeys([by, *(name for one in validations for name in one.figures)])
    return {name: direction(evaluation, name) for name in names}


class BestCheckpoint(ModelCheckpoint):
    """Keeps the checkpoint of the best validation, where Lightning's own knows no ties.

    Args:
        by: figure of validation that chooses, such as ``val_loss``; ties are decided by the others.
            By default what the module's evaluation says, see `Evaluation.chooser`.
        evaluation: of the module, which knows whether a figure is to be small or large.
        options: of `ModelCheckpoint`.

    Attributes:
        best: the validation that the checkpoint is of, None without one.
    """

    def __init__(
        self, by: str | None = None, evaluation: Evaluation | None = None, **options: Any
    ) -> None:
        by = by or chooser(evaluation)
        mode = direction(evaluation, by)
        # After every validation, also where Lightning takes an interval of 1 batch for an epoch.
        super().__init__(monitor=by, mode=mode, save_on_train_epoch_end=False, **options)
        self.best: Validation | None = None
        self._evaluation = evaluation

    @property
    def state_key(self) -> str:
        # That of the class which runs had before: they can be resumed.
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._evaluation = self._evaluation or evaluation_of(pl_module)
        super().setup(trainer, pl_module, stage)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._take_what_is_logged(trainer)
        super().on_validation_end(trainer, pl_module)

    def _take_what_is_logged(self, trainer: L.Trainer) -> None:
        """A module of the user's own may log other figures alone."""
        logged = list(validation_figures(trainer.callback_metrics))
        if trainer.sanity_checking or self.monitor in logged or not logged:
            return
        say(trainer, f"zolit: no {self.monitor} is logged, {logged[0]} chooses the best checkpoint")
        self.monitor, self.mode = logged[0], direction(self._evaluation, logged[0])

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        if current is None:
            return False
        figures = {name: float(value) for name, value in trainer.callback_metrics.items()}
        found, by = Validation(trainer.global_step, validation_figures(figures)), str(self.monitor)
        if self.best is None or not self.best_k_models:
            better = super().check_monitor_top_k(trainer, current)
        else:
            better = best_validation([self.best, found], by, self._evaluation) is found
        better = bool(trainer.strategy.reduce_boolean_decision(better))
        if better:
            self.best = found
        return better

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "best": None if self.best is None else self.best.flat()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.best = _validation(state_dict.get("best")) if self.best_k_models else None


def _validation(kept: Any) -> Validation | None:
    """What a checkpoint remembers; None if it is of a run that did not, or was tampered with."""
    if not isinstance(kept, dict) or not isinstance(kept.get("step"), int):
        return None
    figures = {name: value for name, value in kept.items() if name != "step" and value is not None}
    plain = all(isinstance(n, str) and isinstance(v, float | int) for n, v in figures.items())
    return Validation(kept["step"], figures) if plain else None
