"""How often the likeliest answer is the right one."""

from typing import Any

from torch import nn
from torchmetrics import MeanMetric

from zolit.evaluations.answers import AnswerPattern, Answers
from zolit.evaluations.base import Evaluation
from zolit.objectives.base import Scored


class Classification(Evaluation):
    """Cross-entropy (``loss``) and ``accuracy`` over candidate answers.

    The loss chooses the best checkpoint: on a few hundred rows it differs between checkpoints that
    have the same accuracy.

    Example:
        ::

            evaluation: Classification # the default where the objective scores answers
            run:
              best_by: val_accuracy # instead of val_loss
    """

    needs = Scored
    primary = "accuracy"
    mode = "max"
    chooser = "loss"

    def __init__(self) -> None:
        super().__init__(loss=MeanMetric(), accuracy=MeanMetric())
        self._answers = Answers()

    def update(self, model: nn.Module, batch: Any) -> None:
        scores, targets = self.objective.scores(model, batch), self.objective.targets(batch)
        self.metrics["loss"].update(nn.functional.cross_entropy(scores, targets, reduction="none"))
        self.metrics["accuracy"].update((scores.argmax(dim=1) == targets).float())
        self._answers.update(scores, targets)

    def pattern(self) -> AnswerPattern:
        """How the answers to the rows so far differ."""
        return self._answers.pattern()

    def predict(self, model: nn.Module, batch: Any) -> dict[str, Any]:
        """Predicted index ``[B]`` and probability of each answer ``[B, C]``."""
        scores = self.objective.scores(model, batch)
        return {"prediction": scores.argmax(dim=1), "probabilities": scores.softmax(dim=1)}
