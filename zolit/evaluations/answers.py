"""Whether the answers that a model gives hang on the rows at all."""

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_SPREAD = 1e-2
"""Standard deviation over rows, in nats, below which an answer's log-probability counts as the
same for all of them. Those of a model that reads its rows differ by tenths."""


@dataclass(frozen=True)
class AnswerPattern:
    """How the answers to some rows differ.

    Attributes:
        rows: how many.
        classes: candidate answers.
        spread: standard deviation over the rows of an answer's log-probability, in nats, the
            largest over the answers; NaN if a score is.
        given: different answers that were given.
        right: different answers that were right.
    """

    rows: int
    classes: int
    spread: float
    given: int
    right: int

    @property
    def constant(self) -> bool:
        """Whether every row has the same scores, up to `LEAST_SPREAD`."""
        return self.rows > 1 and self.spread < LEAST_SPREAD

    @property
    def one_answer(self) -> bool:
        """Whether all rows got one answer where several are right."""
        return self.rows > 1 and self.given == 1 and self.right > 1


class Answers:
    """Gathers the scores of an evaluation; keeps a few numbers a row."""

    def __init__(self) -> None:
        self._chances: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Take a batch.

        Args:
            scores: ``[B, C]``.
            targets: ``[B]`` int64, index of the right answer.
        """
        self._chances.append(scores.float().log_softmax(dim=1).cpu())
        self._targets.append(targets.cpu())

    def pattern(self) -> AnswerPattern:
        """Of all batches so far, at least one."""
        chances, targets = torch.cat(self._chances), torch.cat(self._targets)
        return AnswerPattern(
            rows=len(targets),
            classes=chances.shape[1],
            spread=float(chances.double().std(dim=0, correction=0).max()),
            given=len(chances.argmax(dim=1).unique()),
            right=len(targets.unique()),
        )
