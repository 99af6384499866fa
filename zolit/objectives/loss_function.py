"""A loss of the user's own, as a plain function."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from zolit.errors import UserError
from zolit.objectives.base import Objective

RowLoss = Callable[[nn.Module, Any], Tensor]
"""Gets the model and a batch; returns one loss for each row of the batch, ``[rows]``."""


class LossFunction(Objective):
    """Any function of a model and a batch that gives one loss for each row.

    The function is called with a batch whose tensors are repeated along their first dimension, so
    that one forward can read both signs of a direction. It need not know about that, as long as the
    loss of each row depends on its own row alone. Use ``reduction="none"`` in losses of torch.

    Args:
        function: of the model and a batch, ``[rows]``.

    Raises:
        UserError: at the first step, if the function returns another shape, or the same loss for
            both reads of a direction.

    Example:
        >>> def squared_error(model, batch):
        ...     return (model(batch["x"]).squeeze(1) - batch["y"]) ** 2
        >>> batch = {"x": torch.ones(3, 1), "y": torch.zeros(3)}
        >>> LossFunction(squared_error).losses(nn.Identity(), batch)
        tensor([1.])
    """

    def __init__(self, function: RowLoss) -> None:
        self.function = function
        self._checked = False
        self._before: tuple[int, Tensor] | None = None

    def draw(self, batch: Any, key: int) -> Any:
        """The batch itself. Reads before this call, such as those of an evaluation, are
        forgotten."""
        self._before = None
        return batch

    def losses(self, model: nn.Module, batch: Any, copies: int = 1) -> Tensor:
        """Mean over the rows of each copy, see `Objective.losses`."""
        rows = _rows(batch)
        found = self.function(model, _repeated(batch, copies))
        if not isinstance(found, Tensor) or found.shape != (copies * rows,):
            raise UserError(
                f"objective: the loss function returned {_described(found)} for "
                f"{_counted(rows, copies)}, expected a tensor of shape [{copies * rows}], one loss "
                'a row; do not average over the rows (reduction="none" in losses of torch)'
            )
        means: Tensor = found.float().view(copies, rows).mean(dim=1)
        # Of a loss with a gradient there is one read: whether it depends on weights is known.
        if not (self._checked or means.requires_grad):
            self._check(batch, means)
        return means

    def _check(self, batch: Any, means: Tensor) -> None:
        """Compare the first two reads of a batch, whether made in one pass or in two."""
        reads = means
        if len(means) == 1:
            before, self._before = self._before, (id(batch), means)
            if before is None or before[0] != id(batch):
                return
            reads = torch.cat([before[1], means])
        if bool((reads == reads[0]).all()):
            raise UserError(
                "objective: the loss function returned the same loss for both reads of the first "
                "direction, expected it to depend on the model's weights; call the model that it "
                "is given, with each row of the batch, or raise perturber.eps"
            )
        self._checked, self._before = True, None


def _described(found: Any) -> str:
    """What a loss function returned, in words."""
    if not isinstance(found, Tensor):
        return f"a {type(found).__name__}"
    return f"a tensor of shape {list(found.shape)}" if found.dim() else "a single number"


def _counted(rows: int, copies: int) -> str:
    """How many rows a loss function was given."""
    if copies == 1:
        return f"a batch of {rows} rows"
    return f"{copies * rows} rows (the batch's {rows}, {copies} times, for both signs in one pass)"


def _repeated(batch: Any, copies: int) -> Any:
    def repeated(part: Any) -> Any:
        if not isinstance(part, Tensor):
            return part
        return part.repeat(copies, *[1] * (part.dim() - 1))

    return tree_map(repeated, _plain(batch))


def _rows(batch: Any) -> int:
    """Rows of a batch: the length that all of its tensors have.

    Raises:
        UserError: if it holds no tensor, or they have several lengths.
    """
    parts = [part for part in tree_leaves(_plain(batch)) if isinstance(part, Tensor)]
    lengths = {len(part) if part.dim() else 0 for part in parts}
    if len(lengths) != 1 or 0 in lengths:
        raise UserError(
            f"data: a batch holds tensors of the lengths {sorted(lengths)}, expected one number of "
            "rows in all; give each tensor the rows along its first dimension"
        )
    return lengths.pop()


def _plain(batch: Any) -> Any:
    """A mapping of any class, such as a tokenizer's encoding, as a dict; other values unchanged."""
    return dict(batch) if isinstance(batch, Mapping) else batch
