"""Answers that the model writes, against accepted ones."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric

from zolit.errors import UserError, tell
from zolit.evaluations.base import Evaluation
from zolit.objectives.answer_batch import AnswerBatch
from zolit.objectives.answer_text import drop_scores, final_number, squad_scores
from zolit.objectives.decoding import Decoder, find_decoder, written_answers

Accepted = Sequence[tuple[str, ...]]
"""The parts of each answer that is right."""


class GeneratedAnswers(Evaluation):
    """Figures of answers that are written greedily; a subclass scores each of them.

    Rows must come from a task with written answers (`GenerationTask`), which says how long an
    answer may be and where it ends.

    Args:
        names: of the figures that `score` gives; each is a mean over the rows.

    Example:
        >>> class Shouted(GeneratedAnswers):
        ...     primary = "shouted"
        ...     mode = "max"
        ...     def __init__(self):
        ...         super().__init__("shouted")
        ...     def score(self, text, accepted):
        ...         return {"shouted": float(text == accepted[0][0].upper())}
        >>> Shouted().score("YES", [("yes",)])
        {'shouted': 1.0}
    """

    def __init__(self, *names: str) -> None:
        super().__init__(**{name: MeanMetric() for name in names})
        self.decoder = Decoder()
        self._rows = self._empty = 0

    @abstractmethod
    def score(self, text: str, accepted: Accepted) -> Mapping[str, float]:
        """Figures of one answer, by name.

        Args:
            text: that was written, without blanks around it.
            accepted: at least one.
        """

    def try_out(self, model: nn.Module) -> None:
        self.decoder = find_decoder(model)

    def update(self, model: nn.Module, batch: Any) -> None:
        texts = self.write(model, batch)
        for text, accepted in zip(texts, batch.accepted, strict=True):
            if not accepted:
                raise UserError(
                    f"model.evaluation: a row has no accepted answer, which {type(self).__name__} "
                    "compares with; give rows with answers, or ask zolit predict"
                )
            for name, value in self.score(text, accepted).items():
                self.metrics[name].update(value)
        self._rows += len(texts)
        self._empty += texts.count("")

    def figures(self) -> dict[str, Tensor]:
        if self._empty:
            tell(
                f"{self._empty} of {self._rows} written answers are empty, as the model ended them "
                "before a word; they count as they are"
            )
        return super().figures()

    def predict(self, model: nn.Module, batch: Any) -> dict[str, Any]:
        """The written ``answer`` of each row."""
        return {"answer": self.write(model, batch)}

    def passes(self, model: nn.Module, batch: Any) -> Any:
        ids, mask = _checked(batch, self).prompts()
        return self.decoder.rehearse(model, ids, mask)

    def write(self, model: nn.Module, batch: Any) -> list[str]:
        """The answer to each row of a batch.

        Raises:
            UserError: if the batch does not say how answers are written.
        """
        return written_answers(model, _checked(batch, self), self.decoder)


def _checked(batch: Any, evaluation: Evaluation) -> AnswerBatch:
    if not isinstance(batch, AnswerBatch) or batch.writing is None:
        raise UserError(
            f"model.evaluation: {type(evaluation).__name__} reads rows of a task with written "
            f"answers, got a {type(batch).__name__} of another; give data.task max_new_tokens, or "
            "leave model.evaluation out"
        )
    return batch


class SquadAnswers(GeneratedAnswers):
    """F1 over words (``f1``) and exact match (``exact_match``) of SQuAD, from 0 to 1.

    Both are the best over the accepted answers, after SQuAD's normalization
    (`zolit.objectives.answer_text.squad_scores`).

    Example:
        ::

            objective: AnswerLoss
            evaluation: SquadAnswers
    """

    primary = "f1"
    mode = "max"

    def __init__(self) -> None:
        super().__init__("f1", "exact_match")

    def score(self, text: str, accepted: Accepted) -> Mapping[str, float]:
        f1, exact = squad_scores(text, [", ".join(parts) for parts in accepted])
        return {"f1": f1, "exact_match": exact}


class DropAnswers(GeneratedAnswers):
    """F1 over words (``f1``) and exact match (``exact_match``) of DROP, from 0 to 1.

    Numbers are compared by value (`zolit.objectives.answer_text.drop_scores`).

    Example:
        ::

            objective: AnswerLoss
            evaluation: DropAnswers
    """

    primary = "f1"
    mode = "max"

    def __init__(self) -> None:
        super().__init__("f1", "exact_match")

    def score(self, text: str, accepted: Accepted) -> Mapping[str, float]:
        f1, exact = drop_scores(text, accepted)
        return {"f1": f1, "exact_match": exact}


class ExactNumber(GeneratedAnswers):
    """Share of rows whose final number is right (``accuracy``), as of GSM8K.

    The final number is the one behind ``####``, else the last of the text
    (`zolit.objectives.answer_text.final_number`).

    Example:
        ::

            objective: AnswerLoss
            evaluation: ExactNumber
    """

    primary = "accuracy"
    mode = "max"

    def __init__(self) -> None:
        super().__init__("accuracy")

    def score(self, text: str, accepted: Accepted) -> Mapping[str, float]:
        golds = [final_number(parts[-1]) for parts in accepted]
        if None in golds:
            raise UserError(
                f"rows: an accepted answer ends {accepted[0][-1][-40:]!r}, without a number, which "
                "ExactNumber compares; use another evaluation, or give answers with a number"
            )
        found = final_number(text)
        return {"accuracy": float(found is not None and found in golds)}
