"""How often the likeliest answer is the right one."""

from typing import Any

from torch import nn
from torchmetrics import MeanMetric

from zolit.evaluations.answers import AnswerPattern, Answers
from zolit.evaluations.base import Evaluation
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.base import Scored


class Classification(Evaluation):
    """Cross-entropy (``loss``) and ``accuracy`` over candidate answers.

    The answers are common to all rows, or the options of each row, of which several may be right:
    the loss is then that of the first right one. The loss chooses the best checkpoint: on a few
    hundred rows it differs between checkpoints that have the same accuracy.

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
        chosen, own = scores.argmax(dim=1), isinstance(batch, AnswerBatch)
        right = batch.hits(chosen) if own else chosen == targets
        self.metrics["accuracy"].update(right.float())
        if not own:
            self._answers.update(scores, targets)

    def pattern(self) -> AnswerPattern | None:
        """How the answers to the rows so far differ; None if no answer is common to all rows."""
        return self._answers.pattern()

    def predict(self, model: nn.Module, batch: Any) -> dict[str, Any]:
        """Predicted index ``[B]`` and probability of each answer ``[B, C]``.

        If rows have options of their own, the predicted option as text stands between them; an
        option that a row does not have has the probability 0.
        """
        scores = self.objective.scores(model, batch)
        chosen = scores.argmax(dim=1)
        texts = {"answer": batch.chosen_texts(chosen)} if isinstance(batch, AnswerBatch) else {}
        return {"prediction": chosen, **texts, "probabilities": scores.softmax(dim=1)}
