"""Whether the answers of a model depend on the rows at all."""

from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_SPREAD = 1e-2
"""Standard deviation over rows, in nats, below which the log-probability of an answer counts as the
same for all rows. A model that reads its rows has a standard deviation of tenths."""


@dataclass(frozen=True)
class AnswerPattern:
    """How the answers to some rows differ.

    Attributes:
        rows: number of rows.
        classes: number of candidate answers.
        spread: standard deviation over the rows of an answer's log-probability, in nats, for the
            answer where it is largest; NaN if a score is NaN.
        given: number of different answers that the model gave.
        right: number of different answers that were right.
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
        """Whether all rows got the same answer though several are right."""
        return self.rows > 1 and self.given == 1 and self.right > 1


class Answers:
    """Collects the scores of an evaluation: a few numbers for each row."""

    def __init__(self) -> None:
        self._chances: list[Tensor] = []
        self._targets: list[Tensor] = []

    def update(self, scores: Tensor, targets: Tensor) -> None:
        """Add a batch.

        Args:
            scores: ``[B, C]``.
            targets: ``[B]`` int64, index of the right answer.
        """
        self._chances.append(scores.float().log_softmax(dim=1).cpu())
        self._targets.append(targets.cpu())

    def pattern(self) -> AnswerPattern | None:
        """The pattern over all batches so far; None without one."""
        if not self._chances:
            return None
        chances, targets = torch.cat(self._chances), torch.cat(self._targets)
        return AnswerPattern(
            rows=len(targets),
            classes=chances.shape[1],
            spread=float(chances.double().std(dim=0, correction=0).max()),
            given=len(chances.argmax(dim=1).unique()),
            right=len(targets.unique()),
        )
