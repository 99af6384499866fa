"""Any number that can be computed from predictions, as a loss."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from zolit.arguments import at_least
from zolit.errors import UserError, first_line, tell
from zolit.models.families import rehearse
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.answer_text import squad_scores
from zolit.objectives.base import Objective
from zolit.objectives.decoding import Decoder, find_decoder, written_answers
from zolit.objectives.option_scoring import OptionScoring

Sees = Literal["class", "probabilities", "text"]


@dataclass(frozen=True)
class _Drawn:
    """A batch with the key of its random numbers."""

    batch: Any
    key: int


class BlackBox(Objective):
    """Minimizes a figure that has no gradient: accuracy, F1, a metric, a function of one's own.

    Differences of losses are all that a step needs, so the loss may be anything that can be
    computed from predictions. Most figures are steps: a small move of the weights changes no
    answer and the loss neither. Take large batches, several directions and a larger eps, or
    ``temperature``, which smooths the figure.

    Without ``metric`` and ``function`` the figure is the accuracy.

    Args:
        metric: of torchmetrics; it gets the predictions and the targets of a batch: numbers of the
            right answers, or the accepted answers where ``sees`` is ``text``.
        function: of the predictions and the batch; gives one number. If it has an argument ``key``
            it gets 64 bits for random numbers of its own, the same for all reads of a step.
        sees: what predictions are: ``class``, the number of the likeliest answer, ``[B]`` int64;
            ``probabilities``, ``[B, C]`` float32; or ``text``, what the model writes, a list.
        maximize: whether the figure is to be large; by default what the metric says, and false for
            a function.
        temperature: above 0 an answer is drawn from the softmax of the scores over this
            temperature instead of taking the likeliest, by the key of the step: all reads share
            the draw (Gumbel noise), so that answers change one by one as the scores move.
        max_failures: stop after the function or the metric has raised so many times in a row. Until
            then its message is shown, and the step is skipped and counted.

    Raises:
        UserError: if arguments are out of range; at a step if the figure is NaN or no number, or
            after ``max_failures``.

    Example:
        ::

            objective:
              class_path: BlackBox
              init_args:
                metric:
                  class_path: torchmetrics.classification.MulticlassF1Score
                  init_args:
                    num_classes: 3
    """

    def __init__(
        self,
        metric: Metric | None = None,
        function: Callable[..., Any] | None = None,
        sees: Sees = "class",
        maximize: bool | None = None,
        temperature: float = 0.0,
        max_failures: int = 5,
    ) -> None:
        if metric is not None and function is not None:
            raise UserError(
                "objective: BlackBox got a metric and a function, expected one of them; leave one "
                "out"
            )
        at_least("temperature", temperature, 0, "try 1")
        at_least("max_failures", max_failures)
        if sees == "text" and metric is None and function is None:
            raise UserError(
                "objective: BlackBox got sees: text without a metric or a function of texts; give "
                "one, such as zolit.objectives.black_box.SquadF1"
            )
        if sees != "class" and temperature:
            raise UserError(
                f"temperature: got {temperature} with sees: {sees}, expected sees: class, whose "
                "answers are drawn; leave it out"
            )
        self.metric, self.function, self.sees = metric, function, sees
        self.temperature, self.max_failures = temperature, max_failures
        self.sign = -1.0 if self._maximizes(maximize) else 1.0
        self.failures = 0
        """How often the function or the metric has raised in a row."""
        self._takes_key = function is not None and "key" in inspect.signature(function).parameters
        self._scoring = OptionScoring()
        self._decoder = Decoder()

    def _maximizes(self, given: bool | None) -> bool:
        if given is not None:
            return given
        if self.metric is None:
            return self.function is None
        return larger_is_better(self.metric)

    def try_out(self, model: nn.Module) -> None:
        self._scoring.try_out(model)
        if self.sees == "text":
            self._decoder = find_decoder(model)

    def draw(self, batch: Any, key: int) -> Any:
        return _Drawn(batch, key)

    def losses(self, model: nn.Module, batch: Any, copies: int = 1) -> Tensor:
        drawn = batch if isinstance(batch, _Drawn) else _Drawn(batch, 0)
        if next(model.parameters()).is_meta:
            return self._without_numbers(model, drawn.batch, copies)
        found = self._predictions(model, drawn, copies)
        values = [math.nan if one is None else self._figure(one, drawn) for one in found]
        return torch.tensor([self.sign * value for value in values])

    def scores(self, model: nn.Module, batch: Any) -> Tensor:
        """Score of each candidate answer, ``[B, C]`` float32, see `Scored`."""
        return self._scoring.scores(model, batch)

    def targets(self, batch: Any) -> Tensor:
        return self._scoring.targets(batch)

    def rehearsal(self) -> Callable[[nn.Module], Any]:
        """One prompt, see `zolit.models.families.base.Family.rehearse`."""
        return rehearse

    def _without_numbers(self, model: nn.Module, batch: Any, copies: int) -> Tensor:
        """The passes of `losses` on the meta device, for an estimate of memory."""
        if self.sees == "text":
            ids, mask = (part.repeat(copies, 1) for part in batch.prompts())
            self._decoder.rehearse(model, ids, mask)
        else:
            self._scoring.repeated_scores(model, batch, copies)
        return torch.empty(copies, device="meta")

    def _predictions(self, model: nn.Module, drawn: _Drawn, copies: int) -> list[Any]:
        """Predictions of each copy of a batch; None if its scores are NaN or infinite."""
        if self.sees == "text":
            batch = drawn.batch
            if not isinstance(batch, AnswerBatch) or batch.writing is None:
                raise UserError(
                    "objective: BlackBox got sees: text and rows whose answers are not written; "
                    "use a task with max_new_tokens, or sees: class"
                )
            texts = written_answers(model, batch, self._decoder, copies)
            return [texts[copy * len(batch) :][: len(batch)] for copy in range(copies)]
        scores = self._scoring.repeated_scores(model, drawn.batch, copies).float().cpu()
        each = scores.view(copies, len(drawn.batch), -1)
        return [self._answers(one, drawn.key) if one.isfinite().all() else None for one in each]

    def _answers(self, scores: Tensor, key: int) -> Tensor:
        if self.sees == "probabilities":
            return scores.softmax(dim=1)
        if self.temperature:
            generator = torch.Generator().manual_seed(key >> 1)
            noise = torch.rand(scores.shape, generator=generator).clamp(1e-12, 1 - 1e-7)
            scores = scores.log_softmax(dim=1) - self.temperature * (-noise.log()).log()
        return scores.argmax(dim=1)

    def _figure(self, predictions: Any, drawn: _Drawn) -> float:
        try:
            value = self._computed(predictions, drawn)
        except UserError:
            raise
        # The user's own code may raise anything.
        except Exception as error:
            self._failed(error)
            return math.nan
        self.failures = 0
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, bool | int | float) and not math.isnan(value):
            return float(value)
        got = "NaN" if isinstance(value, float) else f"{type(value).__name__} {value!r:.60}"
        raise UserError(
            f"objective: {self._name} of BlackBox gave {got}, expected one number; give a metric "
            "or a function that has one for every batch"
        )

    def _computed(self, predictions: Any, drawn: _Drawn) -> Any:
        batch = drawn.batch
        if self.function is not None:
            more = {"key": drawn.key} if self._takes_key else {}
            return self.function(predictions, batch, **more)
        if self.metric is None:
            own = isinstance(batch, AnswerBatch)
            right = batch.to("cpu").hits(predictions) if own else predictions == batch.labels.cpu()
            return right.float().mean()
        self.metric.reset()
        self.metric.update(predictions, targets_of(batch, self.sees))
        return self.metric.compute()

    def _failed(self, error: Exception) -> None:
        self.failures += 1
        said = f"{type(error).__name__}: {first_line(error)}"
        if self.failures >= self.max_failures:
            raise UserError(
                f"objective: {self._name} of BlackBox raised {self.failures} times in a row, the "
                f"last time {said}; correct it, or raise max_failures"
            ) from error
        tell(
            f"objective: {self._name} of BlackBox raised {said}; the step is skipped "
            f"({self.failures} in a row, it stops after {self.max_failures})"
        )

    @property
    def _name(self) -> str:
        if self.metric is not None:
            return f"the metric {type(self.metric).__name__}"
        return "the function" if self.function is not None else "the accuracy"


class SquadF1:
    """Mean F1 of written answers by SQuAD's normalization, a function for `BlackBox`.

    Example:
        ::

            objective:
              class_path: BlackBox
              init_args:
                function: zolit.objectives.black_box.SquadF1
                sees: text
                maximize: true
    """

    def __call__(self, texts: list[str], batch: AnswerBatch) -> float:
        golds = targets_of(batch, "text")
        each = [squad_scores(text, gold)[0] for text, gold in zip(texts, golds, strict=True)]
        return sum(each) / len(each)


def larger_is_better(metric: Metric) -> bool:
    """Whether a metric is to be large.

    Raises:
        UserError: it does not say so.
    """
    if metric.higher_is_better is None:
        raise UserError(
            f"maximize: {type(metric).__name__} does not say whether it is to be large; set "
            "maximize to true or false"
        )
    return bool(metric.higher_is_better)


def targets_of(batch: Any, sees: Sees) -> Any:
    """What a metric compares predictions with.

    Args:
        batch: with ``labels``, or with ``accepted`` answers.
        sees: what predictions are.

    Returns:
        ``[B]`` int64 on the CPU; of texts the accepted answers of each row.
    """
    if sees == "text":
        return [[", ".join(parts) for parts in one] for one in batch.accepted]
    return batch.labels.cpu()
