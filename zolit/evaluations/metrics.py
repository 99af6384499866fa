"""Any metrics of torchmetrics as the figures of a run."""

from typing import Any

from torch import Tensor, nn
from torchmetrics import Metric

from zolit.errors import UserError
from zolit.evaluations.base import Evaluation
from zolit.objectives.base import Scored
from zolit.objectives.black_box import Sees, larger_is_better, targets_of
from zolit.objectives.decoding import Decoder, find_decoder, written_answers


class Metrics(Evaluation):
    """Metrics of torchmetrics over all rows, such as the one that `BlackBox` minimizes.

    Args:
        metrics: by the name of their figure; each gets predictions and targets and gives one
            number.
        primary: the figure that leads and chooses the best checkpoint; by default the first.
        sees: what predictions are, as for `BlackBox`: ``class``, ``probabilities`` or ``text``.
        maximize: whether the primary figure is to be large; by default what its metric says.

    Raises:
        UserError: if there is no metric, or the primary one does not say whether it is to be large;
            at the end of a validation or test if a metric is NaN or no number.

    Example:
        ::

            evaluation:
              class_path: Metrics
              init_args:
                metrics:
                  f1:
                    class_path: torchmetrics.classification.MulticlassF1Score
                    init_args:
                      num_classes: 3
    """

    def __init__(
        self,
        metrics: dict[str, Metric],
        primary: str | None = None,
        sees: Sees = "class",
        maximize: bool | None = None,
    ) -> None:
        if not metrics:
            raise UserError("metrics: got none; name at least one of torchmetrics")
        self.primary = primary or next(iter(metrics))
        if maximize is None and self.primary in metrics:
            maximize = larger_is_better(metrics[self.primary])
        self.mode = "max" if maximize else "min"
        super().__init__(**metrics)
        self.sees = sees
        self._decoder = Decoder()

    def try_out(self, model: nn.Module) -> None:
        if self.sees == "text":
            self._decoder = find_decoder(model)

    def update(self, model: nn.Module, batch: Any) -> None:
        predictions, targets = self._predictions(model, batch), targets_of(batch, self.sees)
        for metric in self.metrics.values():
            where = metric.device
            given = [one.to(where) if isinstance(one, Tensor) else one for one in predictions]
            metric.update(*given, targets.to(where) if isinstance(targets, Tensor) else targets)

    def figures(self) -> dict[str, Tensor]:
        found = super().figures()
        for name, value in found.items():
            if not isinstance(value, Tensor) or value.numel() != 1 or bool(value.isnan()):
                got = "NaN" if isinstance(value, Tensor) and value.numel() == 1 else repr(value)
                raise UserError(
                    f"model.evaluation: the metric {name!r} gave {got:.60}, expected one number; "
                    "give another metric, or rows that it has a number for"
                )
        return found

    def predict(self, model: nn.Module, batch: Any) -> dict[str, Any]:
        """The predictions that the metrics get, as the column ``prediction``."""
        [found] = self._predictions(model, batch)
        return {"prediction": found}

    def _predictions(self, model: nn.Module, batch: Any) -> list[Any]:
        if self.sees == "text":
            if getattr(batch, "writing", None) is None:
                raise UserError(
                    "model.evaluation: Metrics got sees: text and rows whose answers are not "
                    "written; use a task with max_new_tokens, or sees: class"
                )
            return [written_answers(model, batch, self._decoder)]
        if not isinstance(self.objective, Scored):
            raise UserError(
                f"model.evaluation: Metrics with sees: {self.sees} needs an objective that scores "
                f"answers, got {type(self.objective).__name__}; leave model.evaluation out"
            )
        scores = self.objective.scores(model, batch)
        return [scores.argmax(dim=1) if self.sees == "class" else scores.softmax(dim=1)]
