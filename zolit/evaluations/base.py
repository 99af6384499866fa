"""What an evaluation is: the figures that are reported of a model."""

import copy
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from zolit.arguments import Checked
from zolit.errors import UserError
from zolit.objectives.base import Objective, Scored

Mode = Literal["min", "max"]
"""Whether a figure is better when it is smaller or larger."""


class Evaluation(Checked, ABC):
    """Figures of a model on validation or test rows, and its predictions.

    A module logs every figure of the collection as ``val_<name>`` and ``test_<name>``. It keeps one
    evaluation as the configuration made it and measures with a `fresh` copy of it each time.

    Args:
        metrics: of torchmetrics, by the name of their figure; each gives one number. `update` calls
            each by itself, so their arguments may differ.

    Attributes:
        needs: a class or protocol that the objective must satisfy, such as `Scored`; by default any
            objective does.
        primary: the figure that progress lines and curves show.
        mode: whether ``primary`` is better when it is smaller or larger.
        chooser: the figure that chooses the best checkpoint unless ``run.best_by`` names another;
            None: ``primary``.
        metrics: the collection.

    Raises:
        UserError: if ``primary`` or ``chooser`` is none of the figures.

    Example:
        >>> from torchmetrics import MaxMetric
        >>> class Longest(Evaluation):
        ...     primary = "tokens"
        ...     mode = "max"
        ...     def __init__(self):
        ...         super().__init__(tokens=MaxMetric())
        ...     def update(self, model, batch):
        ...         self.metrics["tokens"].update(batch.shape[1])
        >>> longest = Longest()
        >>> longest.update(nn.Identity(), torch.zeros(2, 7))
        >>> longest.figures()
        {'tokens': tensor(7.)}
    """

    needs: ClassVar[type] = Objective
    primary: str = "loss"
    mode: Mode = "min"
    chooser: str | None = None

    def __init__(self, **metrics: Metric) -> None:
        for name in (self.primary, self.chooser or self.primary):
            if name not in metrics:
                raise UserError(
                    f"evaluation: {type(self).__name__} is judged by {name!r}, expected one of its "
                    f"figures: {', '.join(metrics) or 'none'}; give it a metric of that name"
                )
        # In groups torchmetrics would let metrics of equal states share one state.
        self.metrics = MetricCollection(dict(metrics), compute_groups=False)
        self.names = list(metrics)
        """Names of the figures, in their order."""
        self._objective: Objective | None = None

    @property
    def objective(self) -> Any:
        """The objective that the model is tuned for; it satisfies `needs`.

        Raises:
            RuntimeError: before `bind`.
        """
        if self._objective is None:
            raise RuntimeError("the evaluation has no objective yet; call bind(objective) first")
        return self._objective

    def bind(self, objective: Objective) -> None:
        """Evaluate models that are tuned for this objective.

        Raises:
            UserError: if the objective does not satisfy `needs`.
        """
        if not isinstance(objective, self.needs):
            raise UserError(
                f"evaluation: {type(self).__name__} needs an objective with what "
                f"{self.needs.__name__} has, got {type(objective).__name__}; leave it out for the "
                "one that fits the objective"
            )
        self._objective = objective

    def try_out(self, model: nn.Module) -> None:
        """Find out, once and before anything is measured, how a prepared model has to be called.

        Args:
            model: loaded or on the meta device; its blocks are not compiled.

        Raises:
            UserError: if the model cannot be measured by this evaluation.
        """

    def fresh(self, device: torch.device | str = "cpu") -> Self:
        """An empty copy, for one validation or test.

        Args:
            device: of its metrics.
        """
        # The copy shares the objective, which may be large.
        one = copy.deepcopy(self, {id(self._objective): self._objective})
        one.metrics.to(device)
        return one

    @abstractmethod
    def update(self, model: nn.Module, batch: Any) -> None:
        """Add a batch to the figures.

        Args:
            model: in eval mode, without gradients.
            batch: of the data module, on the model's device.
        """

    def passes(self, model: nn.Module, batch: Any) -> Any:
        """The forward passes of `update`, without the metrics: for an estimate of their memory.

        Args:
            model: may lie on the meta device, where tensors hold no numbers.
            batch: of the data module.
        """
        if isinstance(self.objective, Scored):
            return self.objective.scores(model, batch)
        return self.objective.losses(model, self.objective.draw(batch, 0))

    def figures(self) -> dict[str, Tensor]:
        """Every figure over the batches so far, by name."""
        found = self.metrics.compute()
        return {**{name: found[name] for name in self.names if name in found}, **found}

    def direction(self, name: str) -> Mode:
        """Whether a figure is better when it is smaller or larger.

        For ``primary`` this is `mode`. For another figure its metric decides
        (``higher_is_better``); ``min`` if the metric does not say, such as a mean of losses.
        """
        if name == self.primary:
            return self.mode
        return "max" if name in self.names and self.metrics[name].higher_is_better else "min"

    def predict(self, model: nn.Module, batch: Any) -> dict[str, Any]:
        """The model's predictions for each row: columns by name, ``[B]`` or ``[B, K]``.

        Raises:
            UserError: if this evaluation gives no predictions, as by default.
        """
        self.check_predicts()
        raise NotImplementedError

    def check_predicts(self) -> None:
        """Refuse a prediction if this evaluation does not define `predict`.

        Raises:
            UserError: naming an evaluation that does.
        """
        if type(self).predict is Evaluation.predict:
            raise UserError(
                f"model.evaluation: {type(self).__name__} gives no predictions; use one that does, "
                "such as Classification"
            )
