"""Walk text through a model block by block, as its weights are when each block is reached."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zolit.calibration.calls import Rest, caught, find_calls, run_block


@dataclass(frozen=True)
class Step:
    """A block and what reaches it.

    Attributes:
        path: of the block.
        block: the block.
        inputs: ``[1, length, columns]`` hidden states of each window.
        rests: the block's other arguments for each window.
    """

    path: str
    block: nn.Module
    inputs: list[Tensor]
    rests: list[Rest]

    def outputs(self) -> Iterator[Tensor]:
        """What the block makes of each window, with the weights that it has now."""
        for hidden, rest in zip(self.inputs, self.rests, strict=True):
            yield run_block(self.block, hidden, rest)


@torch.no_grad()
def walk(model: nn.Module, windows: Tensor, blocks: Mapping[str, nn.Module]) -> Iterator[Step]:
    """Each block in the order in which the model calls them, with what reaches it.

    Whoever walks may change a block's weights before it takes the next: the blocks after it see the
    outputs of the new ones. A block that takes what the block before it gave runs on that;
    another, as the first of a decoder behind an encoder, on what the model gives it when it runs
    with the weights that were replaced so far.

    Args:
        model: a transformers model.
        windows: ``[samples, length]`` token ids.
        blocks: by path, where the walk stops; the model runs the others by itself.

    Yields:
        Their inputs are the walker's: not to be changed.
    """
    inputs: list[Tensor] = []
    rests: list[Rest] = []
    for call in find_calls(model, windows, blocks):
        if not call.follows:
            inputs, rests = [], []
            for hidden, rest in caught(model, call, windows):
                inputs.append(hidden)
                rests.append(rest)
        step = Step(call.path, call.block, inputs, call.rests(rests))
        yield step
        inputs = list(step.outputs())
