"""A block in float32 whose layers' weights are copies that may be changed and differentiated."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call

from zolit.calibration.calls import Rest, hidden_states, run_block
from zolit.calibration.gradients import block_values, with_dtype
from zolit.calibration.layers import BlockLayer
from zolit.calibration.region import Region
from zolit.errors import UserError
from zolit.models.experts import eager_experts
from zolit.noise import fold


class Example(NamedTuple):
    """A window as a block sees it.

    Attributes:
        number: of the window.
        hidden: ``[1, length, columns]``, what enters the block.
        rest: its other arguments.
        target: ``[1, length, columns]``, what the dense block gave.
    """

    number: int
    hidden: Tensor
    rest: Rest
    target: Tensor


class FloatBlock:
    """A block of a model beside the model: float32 masters of its layers' weights.

    A step of an optimizer that is shorter than the distance of two bfloat16 numbers is not lost
    here.

    Args:
        region: the block, at the weights that the masters start from; it does not change.

    Attributes:
        masters: the weights by the path of the parameter, in the shape in which layers hold them;
            they require gradients.
    """

    def __init__(self, region: Region) -> None:
        self.region = region
        self._values = block_values(region.block)
        self.masters: dict[str, Tensor] = {}
        for layer in region.layers:
            master = self._values[layer.weight_name].clone().requires_grad_()
            self.masters[layer.path] = self._values[layer.weight_name] = master

    def matrix(self, layer: BlockLayer) -> Tensor:
        """The master of a layer as ``[rows, columns]``; may share its memory."""
        return layer.matrix(self.masters[layer.path].detach())

    @torch.no_grad()
    def set(self, layer: BlockLayer, matrix: Tensor) -> None:
        """Give the master of a layer new values.

        Args:
            layer: of the block.
            matrix: ``[rows, columns]``.
        """
        self.masters[layer.path].copy_(layer.as_held(matrix))

    def run(self, hidden: Tensor, rest: Rest) -> Tensor:
        """The block's output in float32, ``[1, length, columns]``.

        Args:
            hidden: its input.
            rest: its other arguments.
        """
        with eager_experts(self.region.block):
            return run_block(self._call, hidden.float(), with_dtype(rest))

    def run_part(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """The output of a module of the block; the first, if it gives several.

        Args:
            name: of the module in the block.
            args: its arguments, their floats in float32.
            kwargs: its named arguments, likewise.
        """
        start = f"{name}."
        values = {
            key.removeprefix(start): one
            for key, one in self._values.items()
            if key.startswith(start)
        }
        module = self.region.block.get_submodule(name)
        found: Tensor = hidden_states(functional_call(module, values, args, kwargs))
        return found

    def _call(self, *arguments: Any, **options: Any) -> Any:
        return functional_call(self.region.block, self._values, arguments, options)


def examples(region: Region, numbers: Iterable[int]) -> Iterator[Example]:
    """Some windows in turn, one in memory at a time where they lie on the disk.

    Args:
        region: whose dense outputs are recorded.
        numbers: of the windows.
    """
    states = region.states
    for number in numbers:
        rest = states.chain.rest(states.block, number)
        yield Example(number, states.input(number), rest, states.recorded(number))


def squared_distance(block: FloatBlock, example: Example) -> Tensor:
    """``||f(x) - f_dense(x)||^2`` of a window, a float32 scalar whose gradient can be asked for.

    Raises:
        UserError: naming the block, if it is NaN or infinite.
    """
    with torch.enable_grad():
        out = block.run(example.hidden, example.rest)
        found = (out - example.target.float()).square().sum()
    if not found.isfinite():
        raise UserError(
            f"model.source: the output of {block.region.path} is NaN or infinite while its weights "
            f"are fitted, for window {example.number} of the text; lower lr of the reconstruction"
        )
    return found


def drawn_windows(region: Region, steps: int, count: int, seed: int) -> Iterator[list[int]]:
    """Numbers of the windows of each step: at random, and none twice before all have been used.

    Args:
        region: whose text is drawn from.
        steps: how many times.
        count: windows of a step; all of them if there are fewer.
        seed: draws them, together with the number of the block.
    """
    draw = torch.Generator().manual_seed(fold(seed, region.states.block) >> 1)
    total, waiting = len(region.states.chain.windows), list[int]()
    for _ in range(steps):
        if len(waiting) < min(count, total):
            waiting = torch.randperm(total, generator=draw).tolist()
        yield waiting[:count]
        waiting = waiting[count:]
