"""Blocks before the first that moves run once for both signs of a direction and all directions.

Until a perturbed weight has read it, the second half of a paired batch equals the first, and the
hidden states of one direction equal those of the next. A run that tunes the upper two thirds of a
model saves half of the lower third's products with one query; with many queries a batch, all but
one pass through the lower third.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from zolit.models.blocks import block_lists
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight


def share_prefix(model: nn.Module, reading: Reading) -> int:
    """Let the blocks before the first with a moving weight run once for what they have in common.

    In a pair they read one half of the batch. Inside `Reading.same_batch` they run for the first
    pass only, where the next ones come to them with equal arguments. Nothing changes in a pass that
    has read a moving weight before (an embedding), and where a model has several lists of blocks.

    A block is an element of the model's only outermost ``nn.ModuleList``; it takes hidden states
    ``[rows, ...]`` first and returns them, alone or first in a tuple.

    Args:
        model: a prepared model, changed in place; its blocks may be compiled.
        reading: the state that its weights share.

    Returns:
        The number of blocks that run once.
    """
    lists = block_lists(model)
    if len(lists) != 1:
        return 0
    blocks = list(lists[0])
    moving = [any(map(_moves, block.parameters())) for block in blocks]
    prefix = blocks[: moving.index(True)] if True in moving else blocks
    if not any(map(_moves, model.parameters())) or not prefix:
        return 0
    shared = _Prefix(reading)
    for place, block in enumerate(prefix):
        call = shared.wrapped(block._compiled_call_impl or block._call_impl)
        if block is prefix[-1]:
            call = shared.ending(call)
        block._compiled_call_impl = shared.beginning(call) if place == 0 else call
    return len(prefix)


class _Prefix:
    """The pass that is in the prefix now, and what an earlier one made of the same batch.

    Args:
        reading: whose pairs and batches these are.
    """

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._rows: int | None = None  # of the whole batch while its first half alone passes
        self._halves: dict[int, tuple[Tensor, Tensor]] = {}
        self._arguments: Any = None
        self._known = False  # whether this pass's result was in memory when it began

    def beginning(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """The first block: decides how much of the pass has to run."""

        def call(*arguments: Any, **options: Any) -> Any:
            self._rows, self._halves, self._known, self._arguments = None, {}, False, None
            hidden = arguments[0] if arguments else None
            if self.reading.untouched and isinstance(hidden, Tensor):
                if self.reading.paired:
                    self._rows = hidden.shape[0]
                    arguments = (hidden[: self._rows // 2], *arguments[1:])
                if self.reading.repeated is not None:
                    self._arguments = tree_map(self._half, (arguments, options))
                    self._known = "prefix" in self.reading.repeated and _equal(
                        self.reading.repeated["prefix"][0], self._arguments
                    )
            return inner(*arguments, **options)

        return call

    def wrapped(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """Any block of the prefix."""

        def call(*arguments: Any, **options: Any) -> Any:
            if self._known and self.reading.repeated is not None:
                return self.reading.repeated["prefix"][1]
            if self._rows is not None:
                arguments = (arguments[0], *tree_map(self._half, arguments[1:]))
                options = tree_map(self._half, options)
            return inner(*arguments, **options)

        return call

    def ending(self, inner: Callable[..., Any]) -> Callable[..., Any]:
        """The last block: its result is kept, and doubled where one half has passed."""

        def call(*arguments: Any, **options: Any) -> Any:
            out = inner(*arguments, **options)
            if self._arguments is not None and self.reading.repeated is not None:
                self.reading.repeated["prefix"] = (self._arguments, out)
            half = self._rows is not None
            self._rows, self._halves, self._arguments = None, {}, None
            if not half:
                return out
            if isinstance(out, Tensor):
                return torch.cat((out, out))
            return (torch.cat((out[0], out[0])), *out[1:])

        return call

    def _half(self, value: Any) -> Any:
        """The first half of what a block takes for each row (masks, rotary embeddings)."""
        if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[0] != self._rows:
            return value
        if id(value) not in self._halves:
            first, second = value.chunk(2)
            # A table of positions may happen to be as long as the batch.
            self._halves[id(value)] = (value, first if torch.equal(first, second) else value)
        return self._halves[id(value)][1]


def _equal(first: Any, second: Any) -> bool:
    """Whether two sets of arguments hold the same tensors and the same other objects."""
    (one, form), (other, other_form) = tree_flatten(first), tree_flatten(second)
    return form == other_form and all(
        torch.equal(a, b)
        if isinstance(a, Tensor) and isinstance(b, Tensor)
        else a is b or (isinstance(a, bool | int | float | str) and a == b)
        for a, b in zip(one, other, strict=True)
    )


def _moves(parameter: nn.Parameter) -> bool:
    return isinstance(parameter, PerturbedWeight) and parameter.site is not None
