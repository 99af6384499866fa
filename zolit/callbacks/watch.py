"""Watches a run, and tells the user when it does nothing or ruins the model."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L

from zolit.callbacks import findings
from zolit.callbacks.judged import direction, evaluation_of, primary
from zolit.callbacks.step_length import StepLength
from zolit.evaluations import Classification
from zolit.evaluations.answers import AnswerPattern
from zolit.gradient import TakenStep
from zolit.optim import ZOSGD
from zolit.training.dtype import told_dtype
from zolit.training.module import TuningModule
from zolit.training.zero_order import ZeroOrderModule

_FIRST_STEPS = 3
"""The length of later steps is estimated from this many first ones."""

_ALIKE = 3
"""This many steps in a row without a move are no chance."""


class Watch:
    """Findings about a run, each kind of which is printed once.

    Of modules other than `ZeroOrderModule`, only the losses are watched.

    Args:
        say: prints a line.

    Attributes:
        say: as given.
        found: sentences by kind, those that hold at the end of the run.
        untuned: how the answers of the zero-shot test differed, None if it is not known.
        length: of the steps of this session; None before the first, and for other modules.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.found: dict[str, str] = {}
        self.untuned: AnswerPattern | None = None
        self.length: StepLength | None = None

    def measured_untuned(self, module: L.LightningModule) -> None:
        """After the zero-shot test."""
        patterns = _patterns(module, "test")
        self.untuned = patterns[0] if len(patterns) == 1 else None

    def started(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Before the first step."""
        self._missing_validation(trainer, getattr(module, "micro_batches", 1))
        if not isinstance(module, ZeroOrderModule):
            return
        self.length = StepLength(module)
        chooser = module.estimator if module.estimator.default_lr else module.perturber
        if module.default_lr is not None:
            self.say(f"lr {module.default_lr:g}, the default of {type(chooser).__name__}")
        if not module.perturber.eps_given:
            name = type(module.perturber).__name__
            self.say(f"eps {module.perturber.eps:g}, the default of {name}")
        # A run that is resumed cannot change it any more.
        begins = module.device.type == "cpu" and trainer.global_step == 0
        if begins and (line := told_dtype(module.dtype_name, module.dtype_given)):
            self.say(line)

    def stepped(
        self, trainer: L.Trainer, module: L.LightningModule, taken: TakenStep | None
    ) -> None:
        """After an optimizer step; ``taken`` is None if the module does not report its steps."""
        length = self.length
        if length is None or taken is None or not isinstance(module, ZeroOrderModule):
            return
        known = length.steps
        length.take(taken, trainer.optimizers[0])
        if length.steps == known:
            return
        if length.without_move == _ALIKE:
            self._tell("no move", findings.of_equal_losses(_ALIKE))
        elif length.without_move == 0:
            self.found.pop("no move", None)
        if length.steps == _FIRST_STEPS or trainer.global_step == trainer.max_steps:
            self._short(module, length, taken.rates[0], _total_steps(trainer))
            self._held_back(module)

    def validated(
        self,
        module: L.LightningModule,
        metrics: Mapping[str, float],
        zero_shot: float | None,
        step: int,
    ) -> None:
        """After a validation.

        Args:
            module: that was validated.
            metrics: ``val_loss``, if it is logged.
            zero_shot: test loss of the untuned model, None if it is not known.
            step: optimizer steps made before.
        """
        where = f"after step {step}"
        self._held_back(module)
        found = self._judgements(_patterns(module, "val"), metrics.get("val_loss"), zero_shot)
        for kind, sentence in found.items():
            self._set(kind, sentence and f"{where}: {sentence}")

    def tested(
        self,
        module: L.LightningModule,
        metrics: Mapping[str, float],
        zero_shot: Mapping[str, float],
    ) -> None:
        """After the test that follows fitting.

        Findings of the last validation stay, since the test may be of an earlier step.

        Args:
            module: that was tested.
            metrics: figures of the test.
            zero_shot: those of the untuned model; empty if they are not known.
        """
        loss, before = metrics.get("test_loss"), zero_shot.get("test_loss")
        patterns = _patterns(module, "test")
        for kind, sentence in self._judgements(patterns, loss, before).items():
            if sentence is not None:
                self._tell(kind, f"the tested model: {sentence}")
        classes = patterns[0].classes if len(patterns) == 1 else None
        self._set("guess", findings.of_guess(loss, classes))
        evaluation = evaluation_of(module)
        name = "loss" if loss is not None else primary(evaluation, metrics) or "loss"
        mode = direction(evaluation, name)
        first, last = zero_shot.get(f"test_{name}"), metrics.get(f"test_{name}")
        self._set("worse", findings.of_result(first, last, name=name, mode=mode))

    def texts(self, before: float | None, after: float | None) -> None:
        """Loss of the prompts' own text of the untuned and the tuned model, where measured."""
        self._set("text", findings.of_text(before, after))

    def _short(
        self, module: ZeroOrderModule, length: StepLength, rate: float, total: int | None
    ) -> None:
        lr = f"it is {rate:g}"
        optimizer: Any = module.optimizers(use_pl_optimizer=False)
        if module.default_lr is None and getattr(optimizer, "needs_lr", None) is None:
            queries = module.query_scheduler.queries(0, 0)
            own = module.estimator.default_lr
            own = own or module.perturber.default_lr(module.weights, queries)
            if isinstance(optimizer, ZOSGD):
                own = optimizer.default_rate(own)
            lr += f"; {type(module.perturber).__name__}'s default is {own:g}"
        self._set("length", findings.of_step_length(length.relative, length.steps, total, lr))

    def _held_back(self, module: L.LightningModule) -> None:
        optimizer: Any = module.optimizers(use_pl_optimizer=False)
        if self.length is None or not isinstance(module, ZeroOrderModule):
            return
        carried = any(group.get("error_feedback") for group in optimizer.param_groups)
        if carried and not module.quantizer.keep_error:
            self._set("held back", findings.of_held_back(self.length.codes))

    def _judgements(
        self, patterns: list[AnswerPattern], loss: float | None, zero_shot: float | None
    ) -> dict[str, str | None]:
        """The sentence of each kind that an evaluation can show; None where nothing was found."""
        pattern = patterns[0] if len(patterns) == 1 else None
        said = None if pattern is None else findings.of_answers(pattern, self.untuned)
        judged: dict[str, str | None] = {"constant": None, "one answer": None, "loss": None}
        if said is not None:
            judged[said[0]] = said[1]
        if loss is not None:
            classes = None if pattern is None else pattern.classes
            judged["loss"] = findings.of_loss(loss, classes, zero_shot)
        return judged

    def _set(self, kind: str, sentence: str | None) -> None:
        """Replace the finding of a kind; with None, withdraw it."""
        if sentence is None:
            self.found.pop(kind, None)
        else:
            self._tell(kind, sentence)

    def _tell(self, kind: str, sentence: str) -> None:
        new = kind not in self.found
        self.found[kind] = sentence
        if new:
            self.say(f"zolit: {sentence}")

    def _missing_validation(self, trainer: L.Trainer, micro_batches: int) -> None:
        total, epoch = _total_steps(trainer), float(trainer.num_training_batches)
        if not trainer.enable_validation or total is None or not math.isfinite(epoch):
            return
        interval = float(trainer.val_check_batch or math.inf)
        every = trainer.check_val_every_n_epoch
        first = interval if every is None else (every - 1) * epoch + interval
        whole, rest = divmod(total, math.ceil(epoch / micro_batches))
        batches = int(whole * epoch + min(rest * micro_batches, epoch))
        if batches < first:
            self.say(f"zolit: {findings.of_missing_validation(batches, first, epoch)}")


def _patterns(module: L.LightningModule, stage: str) -> list[AnswerPattern]:
    """How the answers differed in the last evaluation of a stage, for each of its loaders."""
    found = module.evaluated.get(stage, []) if isinstance(module, TuningModule) else []
    patterns = [one.pattern() for one in found if isinstance(one, Classification)]
    return [one for one in patterns if one is not None]


def _total_steps(trainer: L.Trainer) -> int | None:
    steps: Any = trainer.estimated_stepping_batches
    return int(steps) if 0 < steps < math.inf else None
