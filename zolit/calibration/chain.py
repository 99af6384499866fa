"""The blocks of a causal language model as a chain: each reads the output of the one before it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from zolit.calibration.calls import Call, Rest, caught, find_calls, run_block
from zolit.calibration.text import Window
from zolit.errors import UserError
from zolit.models.anatomy import named_blocks
from zolit.models.families import family_of


class Chain:
    """Runs single blocks of a model on the windows of a text, as the model itself would.

    The other arguments of the blocks (attention masks, rotary embeddings) are kept in memory, those
    that all windows of a length have in common only once. Hidden states are not kept.

    Args:
        model: a transformers model of the causal family, read without perturbation.
        windows: that will run through it.

    Attributes:
        model: as given.
        windows: as given.
        blocks: the blocks and their paths, in the order in which the model calls them.

    Raises:
        UserError: if the model is not causal, has no blocks, calls a block more than once, or gives
            a block something that depends on the window besides the output of the block before it.
    """

    def __init__(self, model: nn.Module, windows: Sequence[Window]) -> None:
        self.model = model
        self.windows = windows
        name = type(model).__name__
        if not family_of(model).writes_on:
            raise UserError(
                f"model.source: {name} fills in masks, but saliency is of the loss of the next "
                "token; give a causal language model"
            )
        by_length: dict[int, list[int]] = {}
        for number, window in enumerate(windows):
            by_length.setdefault(len(window.ids), []).append(number)
        self._calls: dict[int, list[Call]] = {}
        self._firsts: dict[int, Rest] = {}
        for length, numbers in by_length.items():
            ids = [windows[number].ids for number in numbers]
            # The second window has other text: what differs between both depends on the text.
            calls = find_calls(model, [ids[0], ids[0].roll(1)], named_blocks(model))
            _check(calls, name)
            self._calls[length] = calls
            for number, (hidden, rest) in zip(numbers, caught(model, calls[0], ids), strict=True):
                if not isinstance(hidden, Tensor) or hidden.shape[:-1] != (1, length):
                    raise _unfit(name, "the first is not given one vector for each token")
                self._firsts[number] = rest
        some = next(iter(self._calls.values()))
        self.blocks = [(call.path, call.block) for call in some]
        for length, calls in self._calls.items():
            if [(call.path, call.block) for call in calls] != self.blocks:
                raise _unfit(name, f"it calls other blocks for {length} tokens")

    def __len__(self) -> int:
        return len(self.blocks)

    def calls(self, window: int) -> list[Call]:
        """How the model calls its blocks on a window."""
        return self._calls[len(self.windows[window].ids)]

    def rest(self, block: int, window: int) -> Rest:
        """The arguments of a block for a window, besides its hidden states."""
        return self.calls(window)[block].rests([self._firsts[window]])[0]

    def enter(self, window: int) -> Tensor:
        """Hidden states that the first block is given for a window, ``[1, length, columns]``."""
        hidden, _ = next(
            iter(caught(self.model, self.calls(window)[0], [self.windows[window].ids]))
        )
        return hidden

    @torch.no_grad()
    def step(self, block: int, window: int, hidden: Tensor) -> Tensor:
        """Run a block on hidden states of a window; returns its output, of the same shape."""
        return run_block(self.blocks[block][1], hidden, self.rest(block, window))


def _check(calls: list[Call], name: str) -> None:
    if not calls:
        raise _unfit(name, "it has no list of blocks")
    if len({id(call.block) for call in calls}) < len(calls):
        raise _unfit(name, "some of its blocks are the same module")
    for number, call in enumerate(calls):
        if call.times > 1:
            raise _unfit(name, f"it calls {call.path} {call.times} times")
        if number and not call.follows:
            raise _unfit(name, f"{call.path} reads more than the output of the block before it")
        if any(_changes(value) for value in call.rest.values()):
            raise _unfit(name, f"{call.path} is given a dictionary, which blocks may write to")


def _changes(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def _unfit(name: str, why: str) -> UserError:
    return UserError(
        f"model.source: the blocks of {name} cannot be walked one after another: {why}; give a "
        "model whose blocks each read the output of the one before, as Llama's do"
    )
