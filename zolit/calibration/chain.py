"""The blocks of a causal language model as a chain: each takes what the one before it gave."""

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
    """How a model's blocks hand the windows of a text on.

    The blocks' other arguments (masks, rotary embeddings) are kept, those that all windows of a
    length have in common once; hidden states are not.

    Args:
        model: a transformers model of the causal family, at rest.
        windows: what will run through it.

    Attributes:
        model: as given.
        windows: as given.
        blocks: the blocks and their paths, in the order in which the model calls them.

    Raises:
        UserError: if the model is not causal, has no blocks, calls one more than once, or hands a
            block something else of a window than what the block before it gave.
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
            # Beside it other text of that length, which shows what a block takes of the text.
            calls = find_calls(model, [ids[0], ids[0].roll(1)], named_blocks(model))
            _check(calls, name)
            self._calls[length] = calls
            for number, (hidden, rest) in zip(numbers, caught(model, calls[0], ids), strict=True):
                if not isinstance(hidden, Tensor) or hidden.shape[:-1] != (1, length):
                    raise _unfit(name, "its first is not given one vector for each token")
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
        """What a block takes of a window besides its hidden states."""
        return self.calls(window)[block].rests([self._firsts[window]])[0]

    def enter(self, window: int) -> Tensor:
        """``[1, length, columns]``, what reaches the first block."""
        hidden, _ = next(
            iter(caught(self.model, self.calls(window)[0], [self.windows[window].ids]))
        )
        return hidden

    @torch.no_grad()
    def step(self, block: int, window: int, hidden: Tensor) -> Tensor:
        """What a block makes of hidden states of a window."""
        return run_block(self.blocks[block][1], hidden, self.rest(block, window))


def _check(calls: list[Call], name: str) -> None:
    if not calls:
        raise _unfit(name, "it has no list of blocks")
    if len({id(call.block) for call in calls}) < len(calls):
        raise _unfit(name, "some of its blocks are one")
    for number, call in enumerate(calls):
        if call.times > 1:
            raise _unfit(name, f"it calls {call.path} {call.times} times")
        if number and not call.follows:
            raise _unfit(name, f"{call.path} takes more than the block before it gave")
        if any(_changes(value) for value in call.rest.values()):
            raise _unfit(name, f"{call.path} is given a dictionary, which blocks may write to")


def _changes(value: Any) -> bool:
    return isinstance(value, dict) and bool(value)


def _unfit(name: str, why: str) -> UserError:
    return UserError(
        f"model.source: the blocks of {name} cannot be walked one after another: {why}; give a "
        "model whose blocks each take what the one before them gave, as Llama's do"
    )
