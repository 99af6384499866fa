"""Language modelling on the tokens of the right answers."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.families import answer_logits, family_of, rehearse
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.base import Objective
from zolit.objectives.padding import Together, rows_together
from zolit.objectives.row_scores import option_scores, own_log_probs


class AnswerLoss(Objective):
    """Mean next-token loss, in nats, over the tokens of the right answers of a batch.

    MeZO's loss of COPA, ReCoRD, SQuAD and DROP (Malladi et al. 2023, arXiv 2305.17333,
    ``only_train_option`` in its code). Of multiple choice only the (first) right option is read;
    the others are read where options are compared, by the mean log-probability of their tokens.

    It needs rows with answers of their own (`ChoiceTask`, `GenerationTask`) and a causal model.

    Example:
        ::

            objective: AnswerLoss
            evaluation: Classification # of multiple choice; of written answers SquadAnswers
    """

    def __init__(self) -> None:
        self.together: Together = "all"
        """Which rows of a batch the model may see together, found by `try_out`."""

    def try_out(self, model: nn.Module) -> None:
        self.together = rows_together(model, answer_logits, family_of(model).writes_on)

    def losses(self, model: nn.Module, batch: AnswerBatch, copies: int = 1) -> Tensor:
        """Mean over all answer tokens of each copy, see `Objective.losses`."""
        checked = self._checked(batch)
        if bool((checked.labels < 0).any()):
            raise UserError(
                "objective: a row of the batch does not say which answer is right, which "
                f"{type(self).__name__} needs; give rows with answers"
            )
        rows = checked.right_rows
        totals = own_log_probs(model, checked, copies, self.together, rows)
        return -totals.sum(dim=1) / checked.lengths[rows].sum()

    def scores(self, model: nn.Module, batch: AnswerBatch) -> Tensor:
        """Mean log-probability of each option, ``[B, C]`` float32, see `Scored`."""
        return option_scores(model, self._checked(batch), 1, self.together)

    def targets(self, batch: AnswerBatch) -> Tensor:
        return batch.labels

    def rehearsal(self) -> Callable[[nn.Module], Any]:
        """One prompt, see `zolit.models.families.base.Family.rehearse`."""
        return rehearse

    def _checked(self, batch: Any) -> AnswerBatch:
        if not isinstance(batch, AnswerBatch):
            raise UserError(
                f"objective: {type(self).__name__} reads rows with answers of their own, got a "
                f"batch of type {type(batch).__name__}; use OptionScoring, or a task with options "
                "or written answers"
            )
        return batch
