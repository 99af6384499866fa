"""What is gathered while rows are evaluated."""

from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy

from zolit.evaluations.answers import AnswerPattern, Answers
from zolit.evaluations.text_loss import TextLoss


class Evaluation:
    """Figures of one validation or test.

    Args:
        classes: candidate answers.
        device: of the scores.
        reads_text: whether the loss of the prompts' own text is measured too.

    Attributes:
        text: of `TextLoss`, None if it is not measured.
    """

    def __init__(self, classes: int, device: torch.device, reads_text: bool) -> None:
        self._loss = MeanMetric().to(device)
        self._accuracy = MulticlassAccuracy(classes, average="micro").to(device)
        self._answers = Answers()
        self.text = TextLoss() if reads_text else None

    def update(self, model: nn.Module, batch: Any, scores: Tensor, targets: Tensor) -> None:
        """Take a batch.

        Args:
            model: whose scores they are.
            batch: that it was given.
            scores: ``[B, C]`` float32.
            targets: ``[B]`` int64, index of the right answer.
        """
        self._loss.update(nn.functional.cross_entropy(scores, targets, reduction="none"))
        self._accuracy.update(scores, targets)
        self._answers.update(scores, targets)
        if self.text is not None:
            self.text.update(model, batch)

    def figures(self) -> dict[str, Tensor]:
        """Mean loss and accuracy over the rows so far."""
        return {"loss": self._loss.compute(), "accuracy": self._accuracy.compute()}

    def pattern(self) -> AnswerPattern:
        """How the answers differ over the rows so far."""
        return self._answers.pattern()
