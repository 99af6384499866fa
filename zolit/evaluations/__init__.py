"""The figures that are reported of a model on validation and test rows."""

from zolit.evaluations.base import Evaluation, Mode
from zolit.evaluations.classification import Classification
from zolit.evaluations.generated import (
    DropAnswers,
    ExactNumber,
    GeneratedAnswers,
    SquadAnswers,
)
from zolit.evaluations.mean_loss import MeanLoss
from zolit.evaluations.metrics import Metrics
from zolit.evaluations.perplexity import Perplexity
from zolit.objectives.base import Objective, Scored

__all__ = [
    "Classification",
    "DropAnswers",
    "Evaluation",
    "ExactNumber",
    "GeneratedAnswers",
    "MeanLoss",
    "Metrics",
    "Mode",
    "Perplexity",
    "SquadAnswers",
    "evaluation_for",
]


def evaluation_for(objective: Objective) -> Evaluation:
    """The evaluation of an objective, if the configuration names none.

    `Classification` if the objective scores answers, else `MeanLoss`.
    """
    return Classification() if isinstance(objective, Scored) else MeanLoss()
