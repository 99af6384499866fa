"""Gradients of one block's weights, from the gradient by the block's output."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from zolit.calibration.calls import Rest, run_block
from zolit.calibration.ending import decoded
from zolit.models.experts import eager_experts

Method = Literal["fisher", "mean_grad_sq", "grasp"]

METHODS: tuple[Method, ...] = ("fisher", "mean_grad_sq", "grasp")
"""How gradients become scores, see `BlockGradients`; ``grasp`` takes their derivatives, too
(`zolit.calibration.hessian_sweeps`)."""


_TOGETHER = 1 << 18
"""Entries of a gradient that are added at once, so that what this takes stays in the cache."""


class BlockGradients:
    """A block with its weights decoded, and the sums of their gradients.

    In memory: the block's weights, unless they are plain and have the dtype, and one weight's
    gradient at a time, both in the dtype; and a sum for each weight that is scored, in float32.

    Args:
        block: read without perturbation; its weights may be stored in any format.
        weights: names of the weights to score.
        method: ``fisher`` sums the squares of each window's gradient, ``mean_grad_sq`` squares the
            sum of the gradients, and ``grasp`` takes that sum (`gradient`).
        dtype: to compute in: float32, or that of the model's hidden states.
    """

    def __init__(
        self,
        block: nn.Module,
        weights: Iterable[str],
        method: Method,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.block = block
        self.dtype = dtype
        self._square = method == "fisher"
        self._values = block_values(block, dtype)
        self._sums: dict[str, Tensor] = {}
        for name in weights:
            leaf = self._values[name].requires_grad_()
            self._sums[name] = torch.zeros(leaf.shape, device=leaf.device)
            leaf.register_post_accumulate_grad_hook(partial(self._add, self._sums[name]))

    def _add(self, total: Tensor, leaf: Tensor) -> None:
        """Add a window's gradient to the sum, and forget it."""
        if leaf.grad is None:
            return
        parts = zip(
            total.view(-1).split(_TOGETHER), leaf.grad.flatten().split(_TOGETHER), strict=True
        )
        for into, part in parts:
            values = part.float()
            if self._square:
                into.addcmul_(values, values)
            else:
                into.add_(values)
        leaf.grad = None

    def back(
        self, hidden: Tensor, rest: Rest, gradient: Tensor | Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Run the block forward and backward on one window.

        Args:
            hidden: input of the block, ``[1, length, columns]``.
            rest: its other arguments.
            gradient: of the loss by the block's output, ``[1, length, columns]`` float32; or a
                function that makes it from that output.

        Returns:
            The output of the block, and the gradient of the loss by ``hidden``; both float32.
        """
        with torch.enable_grad(), eager_experts(self.block):
            leaf = hidden.detach().to(self.dtype).requires_grad_()
            out = run_block(self._call, leaf, with_dtype(rest, self.dtype))
            slope = gradient(out.detach()) if callable(gradient) else gradient
            torch.autograd.backward(out, slope.to(out.dtype))
        found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        return out.detach().float(), found.float()

    def _call(self, *arguments: Any, **options: Any) -> Any:
        return functional_call(self.block, self._values, arguments, options)

    def scores(self, name: str) -> Tensor:
        """The score of each entry of a weight: float32, at least 0, in the parameter's shape."""
        return self._sums[name] if self._square else self._sums[name].square()

    def gradient(self, name: str) -> Tensor:
        """The sum over windows of a weight's gradients, where no squares are summed; float32."""
        return self._sums[name]


def block_values(block: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Parameters and float buffers of a block, decoded, by their names in it.

    Args:
        block: read without perturbation.
        dtype: see `zolit.calibration.ending.decoded`.
    """
    found = {name: decoded(one, dtype) for name, one in block.named_parameters()}
    floats = {name: one for name, one in block.named_buffers() if one.is_floating_point()}
    return found | {name: decoded(one, dtype) for name, one in floats.items()}


def with_dtype(rest: Rest, dtype: torch.dtype = torch.float32) -> Rest:
    """Other arguments of a block with their float tensors in float32, if that is the dtype."""
    found: Rest = tree_map(_as_float32, rest) if dtype == torch.float32 else rest
    return found


def _as_float32(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    return value
