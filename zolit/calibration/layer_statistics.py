"""What text shows of linear layers: sums over their inputs, and gradients of their weights."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

Norm = Literal["sample_mean", "all_tokens"]
"""How the inputs of a layer are summed up: see `LayerStatistics.input_norms`."""


@dataclass
class LayerStatistics:
    """What the windows of a text show of one linear layer.

    Attributes:
        squares: ``[columns]`` float64, the sum of ``x_j ** 2`` over all inputs x of the layer.
        windows: number of windows that the sums are over.
        moments: ``[columns, columns]`` float32, the sum of ``x x^T``; None where it was not asked
            for.
        gradients: ``[rows, columns]`` float32, the sum over windows of the squared gradient of a
            loss by the weight; None where it was not asked for.

    Example:
        >>> seen = LayerStatistics(torch.tensor([8.0, 2.0]).double(), windows=2)
        >>> seen.input_norms("sample_mean").tolist()
        [2.0, 1.0]
    """

    squares: Tensor
    windows: int = 0
    moments: Tensor | None = None
    gradients: Tensor | None = None

    def input_norms(self, norm: Norm) -> Tensor:
        """``||X_j||`` of each input channel, ``[columns]`` float32.

        Args:
            norm: ``sample_mean``: the root of the mean over windows of the sum over their tokens,
                as Wanda's code has it; ``all_tokens``: the root of the sum over all tokens of all
                windows, larger by the root of the number of windows.
        """
        total = self.squares / max(self.windows, 1) if norm == "sample_mean" else self.squares
        return total.sqrt().float()


@contextmanager
def watched_inputs(
    layers: Mapping[str, nn.Module], moments: bool = False
) -> Iterator[dict[str, LayerStatistics]]:
    """Sum up the inputs of linear layers while their block runs, a forward for each window.

    Args:
        layers: linear layers by name; each is called at most once in a forward.
        moments: whether the sums of ``x x^T`` are wanted, too.

    Yields:
        The sums by name. They grow with each forward; a layer without one yet is missing.
    """
    found: dict[str, LayerStatistics] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, args: tuple[Any, ...]) -> None:
            x: Tensor = args[0].detach().flatten(0, -2).float()
            seen = found.get(name)
            if seen is None:
                columns = x.shape[1]
                seen = found[name] = LayerStatistics(x.new_zeros(columns, dtype=torch.float64))
                seen.moments = x.new_zeros(columns, columns) if moments else None
            seen.windows += 1
            seen.squares += x.square().sum(0, dtype=torch.float64)
            if seen.moments is not None:
                seen.moments.addmm_(x.t(), x)

        return hook

    hooks = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
