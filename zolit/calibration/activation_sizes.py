"""How large a model's activations are behind each block, while text runs through it."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zolit.calibration.calls import hidden_states
from zolit.errors import UserError


@dataclass(frozen=True)
class ActivationSize:
    """Magnitudes of the hidden states behind a block, each a mean over windows of text.

    Attributes:
        path: of the block.
        largest: the largest of a window.
        median: the median of a window.

    Example:
        >>> ActivationSize("model.layers.1", largest=420.0, median=0.2).ratio
        2100.0
    """

    path: str
    largest: float
    median: float

    @property
    def ratio(self) -> float:
        """How many times the median the largest is; 0 where all activations are 0."""
        return self.largest / self.median if self.median else float(self.largest > 0) * torch.inf


@torch.no_grad()
def activation_sizes(
    model: nn.Module, windows: Iterable[Tensor], blocks: Mapping[str, nn.Module]
) -> list[ActivationSize]:
    """Run each window once, and measure what each block gives.

    One window's hidden states behind one block are looked at at a time; none are kept.

    Args:
        model: a transformers model, at rest.
        windows: ``[length]`` token ids of each.
        blocks: by path.

    Returns:
        The blocks in the order in which the model calls them.

    Raises:
        UserError: if an activation is NaN or infinite.
    """
    found: dict[str, _Sums] = {}

    def leave(path: str) -> Callable[..., None]:
        def hook(block: nn.Module, args: Any, result: Any) -> None:
            states = hidden_states(result)
            if not isinstance(states, Tensor):
                raise UserError(
                    f"model.source: {path} gives a {type(states).__name__}, not hidden states, so "
                    "that nothing says how large these are; give the mask its block"
                )
            sizes = states.detach().float().abs()
            found.setdefault(path, _Sums()).add(float(sizes.max()), float(sizes.median()))

        return hook

    hooks = [block.register_forward_hook(leave(path)) for path, block in blocks.items()]
    try:
        for window in windows:
            model(input_ids=window.unsqueeze(0), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    sizes = [
        ActivationSize(path, sums.largest / sums.count, sums.median / sums.count)
        for path, sums in found.items()
    ]
    for one in sizes:
        if not one.largest < torch.inf:
            raise UserError(
                f"model.source: the activations behind {one.path} are not finite; give a model "
                "whose weights are finite, or model.dtype: float32"
            )
    return sizes


@dataclass
class _Sums:
    largest: float = 0.0
    median: float = 0.0
    count: int = 0

    def add(self, largest: float, median: float) -> None:
        self.largest += largest
        self.median += median
        self.count += 1
