"""The loss that is minimized, on rows that were not trained on."""

from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor, nn
from torchmetrics import MeanMetric

from zolit.evaluations.base import Evaluation
from zolit.noise import fold

_KEY = 0x6576616C
"""Key of the objective's random numbers; the same in every evaluation, so that two compare."""


class MeanLoss(Evaluation):
    """Mean of the objective's own ``loss`` over the rows; it fits any objective.

    Example:
        >>> import torch
        >>> from zolit import LossFunction
        >>> evaluation = MeanLoss()
        >>> evaluation.bind(LossFunction(lambda model, batch: model(batch).square().sum(1)))
        >>> evaluation.update(nn.Identity(), torch.ones(4, 2))
        >>> evaluation.figures()
        {'loss': tensor(2.)}
    """

    def __init__(self) -> None:
        super().__init__(loss=MeanMetric())
        self._batches = 0

    def update(self, model: nn.Module, batch: Any) -> None:
        drawn = self.objective.draw(batch, fold(_KEY, self._batches))
        loss = self.objective.losses(model, drawn).mean()
        self.metrics["loss"].update(loss, weight=rows(batch) or 1)
        self._batches += 1

    def passes(self, model: nn.Module, batch: Any) -> Any:
        return self.objective.losses(model, self.objective.draw(batch, _KEY))


def rows(batch: Any) -> int | None:
    """Length of the first tensor in a batch; None if there is none."""
    if isinstance(batch, Tensor):
        return len(batch) if batch.dim() else None
    parts: Any = ()
    if is_dataclass(batch):
        parts = (getattr(batch, field.name) for field in fields(batch))
    elif isinstance(batch, dict):
        parts = batch.values()
    elif isinstance(batch, list | tuple):
        parts = batch
    return next((found for part in parts if (found := rows(part)) is not None), None)
