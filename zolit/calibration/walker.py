"""Runs text through a model block by block, while the weights of its blocks may be changed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zolit.calibration.calls import Rest, caught, find_calls, run_block


@dataclass(frozen=True)
class Step:
    """A block and its inputs.

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
        """The block's output for each window, with the weights that it has now."""
        for hidden, rest in zip(self.inputs, self.rests, strict=True):
            yield run_block(self.block, hidden, rest)


@torch.no_grad()
def walk(model: nn.Module, windows: Tensor, blocks: Mapping[str, nn.Module]) -> Iterator[Step]:
    """Each block with its inputs, in the order in which the model calls them.

    The caller may change the weights of a block before it asks for the next one: later blocks get
    inputs that come from the new weights. A block that continues a chain (`Call.follows`) gets the
    outputs of the block before it. For any other block, such as the first of a decoder behind an
    encoder, the model is run up to it, with the weights that it has by then.

    Args:
        model: a transformers model.
        windows: ``[samples, length]`` token ids.
        blocks: the blocks to stop at, by path.

    Yields:
        The blocks. Their inputs must not be changed.
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
