"""Blocks before the first that moves are run once for both signs of a direction.

A pair doubles the batch, and until a perturbed weight has read it the second half equals the first.
A run that tunes the upper two thirds of a model saves half of the lower third's products.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from zolit.models.blocks import block_lists
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight


class _Pass:
    """One forward pass through the blocks.

    Attributes:
        rows: of the whole batch while its first half alone passes; None otherwise.
    """

    def __init__(self) -> None:
        self.rows: int | None = None
        self._known: dict[int, tuple[Tensor, Tensor]] = {}

    def begin(self, hidden: Tensor) -> Tensor:
        """The first half of the hidden states, from where on it passes alone."""
        self.rows, self._known = hidden.shape[0], {}
        return hidden[: self.rows // 2]

    def end(self, hidden: Tensor) -> Tensor:
        """Both halves again."""
        self.rows, self._known = None, {}
        return torch.cat((hidden, hidden))

    def half(self, value: Any) -> Any:
        """The first half of what a block takes for each row (masks, rotary embeddings)."""
        if not isinstance(value, Tensor) or value.dim() < 2 or value.shape[0] != self.rows:
            return value
        if id(value) not in self._known:
            first, second = value.chunk(2)
            # A table of positions may happen to be as long as the batch.
            self._known[id(value)] = (value, first if torch.equal(first, second) else value)
        return self._known[id(value)][1]


def share_prefix(model: nn.Module, reading: Reading) -> int:
    """Let the blocks before the first with a moving weight read one half of a paired batch.

    A block is an element of the model's only outermost ``nn.ModuleList``; it takes hidden states
    ``[rows, ...]`` first. Nothing changes where there are several such lists, or where a weight
    outside of the blocks moves, which may stand before them.

    Args:
        model: a prepared model, changed in place; its blocks may be compiled.
        reading: the state that its weights share.

    Returns:
        The number of blocks that read one half.
    """
    lists = block_lists(model)
    if len(lists) != 1:
        return 0
    blocks = list(lists[0])
    moving = [any(map(_moves, block.parameters())) for block in blocks]
    inside = {id(p) for p in lists[0].parameters()}
    if True not in moving or any(_moves(p) and id(p) not in inside for p in model.parameters()):
        return 0
    first, one = moving.index(True), _Pass()
    if not first:
        return 0
    for place, block in enumerate(blocks[: first + 1]):
        inner = block._compiled_call_impl or block._call_impl
        call = _last(inner, one) if place == first else _between(inner, one)
        block._compiled_call_impl = call if place else _first(inner, call, one, reading)
    return first


def _first(
    inner: Callable[..., Any], between: Callable[..., Any], one: _Pass, reading: Reading
) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        one.rows = None  # of a pass that broke off
        hidden = arguments[0] if arguments else None
        if not reading.paired or not isinstance(hidden, Tensor):
            return inner(*arguments, **options)
        return between(one.begin(hidden), *arguments[1:], **options)

    return call


def _between(inner: Callable[..., Any], one: _Pass) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if one.rows is None:
            return inner(*arguments, **options)
        rest = tree_map(one.half, arguments[1:])
        return inner(arguments[0], *rest, **tree_map(one.half, options))

    return call


def _last(inner: Callable[..., Any], one: _Pass) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:
        if one.rows is None:
            return inner(*arguments, **options)
        return inner(one.end(arguments[0]), *arguments[1:], **options)

    return call


def _moves(parameter: nn.Parameter) -> bool:
    return isinstance(parameter, PerturbedWeight) and parameter.site is not None
