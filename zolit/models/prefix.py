"""Blocks before the first that moves run once for both signs of a direction and all directions.

Until a perturbed weight has read it, the second half of a paired batch equals the first, and the
hidden states of one direction equal those of the next. A run that tunes the upper two thirds of a
model saves half of the lower third's products with one query; with many queries a batch, all but
one pass through the lower third. Where each direction moves other blocks (`RandomBlocks`), what was
made before the lowest of them serves all.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from zolit.models.blocks import block_lists
from zolit.tensors.reading import Reading, Site
from zolit.tensors.weight import PerturbedWeight


def share_prefix(model: nn.Module, reading: Reading) -> int:
    """Let the blocks before the first with a moving weight run once for what they have in common.

    In a pair they read one half of the batch. Inside `Reading.same_batch` each runs for the first
    pass that needs it only, where the next ones come with equal arguments. Nothing changes in a
    pass that has read a moving weight before (an embedding), and where a model has several lists
    of blocks.

    A block is an element of the model's only outermost ``nn.ModuleList``; it takes hidden states
    ``[rows, ...]`` first and returns them, alone or first in a tuple.

    Args:
        model: a prepared model, changed in place; its blocks may be compiled.
        reading: the state that its weights share.

    Returns:
        The number of blocks that run once for some directions.
    """
    lists = block_lists(model)
    if len(lists) != 1 or not any(_sites(model)):
        return 0
    blocks = list(lists[0])
    sites = [_sites(block) for block in blocks]
    moving = [place for place, found in enumerate(sites) if found] or [len(blocks)]
    last = moving[-1] if reading.blocks is not None else moving[0]
    if last == 0:
        return 0
    shared = _Prefix(reading, sites, last)
    for place, block in enumerate(blocks[:last]):
        call = block._compiled_call_impl or block._call_impl
        block._compiled_call_impl = shared.wrapped(call, place)
    return last


class _Prefix:
    """The pass that is in the prefix now, and what earlier ones made of the same batch.

    Args:
        reading: whose pairs and batches these are.
        sites: of the weights in each block.
        most: blocks that a prefix may have.
    """

    def __init__(self, reading: Reading, sites: list[list[Site]], most: int) -> None:
        self.reading = reading
        self.sites = sites
        self.most = most
        self._end = 0  # blocks of the prefix of this pass
        self._known = -1  # the last of them whose result was in memory when the pass began
        self._rows: int | None = None  # of the whole batch while its first half alone passes
        self._halves: dict[int, tuple[Tensor, Tensor]] = {}
        self._results: dict[int, Any] | None = None  # of blocks, kept for other passes

    def wrapped(self, inner: Callable[..., Any], place: int) -> Callable[..., Any]:
        """A block that is in the prefix of some passes."""

        def call(*arguments: Any, **options: Any) -> Any:
            if place == 0:
                self._begin(arguments, options)
            if place >= self._end:
                return inner(*arguments, **options)
            out = self._run(inner, place, arguments, options)
            return self._both(out) if place == self._end - 1 else out

        return call

    def _begin(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Decide how much of a pass has to run."""
        self._end, self._known, self._rows, self._halves, self._results = 0, -1, None, {}, None
        hidden = arguments[0] if arguments else None
        if not self.reading.untouched or not isinstance(hidden, Tensor):
            return
        self._end = self._first_moving()
        if self.reading.paired:
            self._rows = hidden.shape[0]
        if self.reading.repeated is None or self._end == 0:
            return
        first = hidden if self._rows is None else hidden[: self._rows // 2]
        taken = (first, *tree_map(self._half, (arguments[1:], options)))
        if not _equal(self.reading.repeated.get("prefix of"), taken):
            self.reading.repeated.update({"prefix of": taken, "prefix": {}})
        self._results = self.reading.repeated["prefix"]
        self._known = max((place for place in self._results if place < self._end), default=-1)

    def _first_moving(self) -> int:
        """Of this pass; at rest of any."""
        for place, sites in enumerate(self.sites[: self.most]):
            if any(not self.reading.active or self.reading.moves(site) for site in sites):
                return place
        return self.most

    def _run(
        self, inner: Callable[..., Any], place: int, arguments: tuple[Any, ...], options: Any
    ) -> Any:
        """A block of the prefix, on one half of a pair."""
        if self._results is not None and place <= self._known:
            return self._results[self._known]
        if self._rows is not None:
            hidden = arguments[0]
            if place == 0:
                hidden = hidden[: self._rows // 2]
            arguments = (hidden, *tree_map(self._half, arguments[1:]))
            options = tree_map(self._half, options)
        out = inner(*arguments, **options)
        # What another direction may go on from.
        if self._results is not None and (place + 1 == len(self.sites) or self.sites[place + 1]):
            self._results[place] = out
        return out

    def _both(self, out: Any) -> Any:
        """The result of the prefix, doubled where one half has passed."""
        half = self._rows is not None
        self._rows, self._halves, self._results = None, {}, None
        if not half:
            return out
        if isinstance(out, Tensor):
            return torch.cat((out, out))
        return (torch.cat((out[0], out[0])), *out[1:])

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


def _sites(module: nn.Module) -> list[Site]:
    return [
        parameter.site
        for parameter in module.parameters()
        if isinstance(parameter, PerturbedWeight) and parameter.site is not None
    ]
