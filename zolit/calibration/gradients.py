"""Gradients of one block's weights in float32, from the gradient by the block's output."""

from collections.abc import Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._pytree import tree_map

from zolit.calibration.calls import Rest, run_block
from zolit.calibration.ending import in_float32
from zolit.models.experts import eager_experts

Method = Literal["fisher", "mean_grad_sq", "grasp"]

METHODS: tuple[Method, ...] = ("fisher", "mean_grad_sq", "grasp")
"""How gradients become scores, see `BlockGradients`; ``grasp`` takes their derivatives, too
(`zolit.calibration.hessian_sweeps`)."""


class BlockGradients:
    """A block with its weights decoded to float32, and the sums of their gradients.

    In memory, in float32: the block's weights, a sum for each weight that is scored, and with
    ``fisher`` the gradient of one weight at a time.

    Args:
        block: read without perturbation; its weights may be stored in any format.
        weights: names of the weights to score.
        method: ``fisher`` sums the squares of each window's gradient, ``mean_grad_sq`` squares the
            sum of the gradients, and ``grasp`` takes that sum (`gradient`).
    """

    def __init__(self, block: nn.Module, weights: Iterable[str], method: Method) -> None:
        self.block = block
        self._squares: dict[str, Tensor] = {}
        self._values = block_values(block)
        self._leaves = {name: self._values[name].requires_grad_() for name in weights}
        if method == "fisher":
            for name, leaf in self._leaves.items():
                self._squares[name] = torch.zeros_like(leaf, requires_grad=False)
                leaf.register_post_accumulate_grad_hook(self._add(self._squares[name]))

    @staticmethod
    def _add(squares: Tensor) -> Any:
        def add(leaf: Tensor) -> None:
            if leaf.grad is not None:
                squares.addcmul_(leaf.grad, leaf.grad)
                leaf.grad = None

        return add

    def back(self, hidden: Tensor, rest: Rest, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Run the block forward and backward on one window.

        Args:
            hidden: input of the block, ``[1, length, columns]``.
            rest: its other arguments.
            gradient: of the loss by the block's output, ``[1, length, columns]`` float32.

        Returns:
            The output of the block, and the gradient of the loss by ``hidden``; both float32.
        """
        floats = in_floats(rest)
        with torch.enable_grad(), eager_experts(self.block):
            leaf = hidden.detach().float().requires_grad_()
            out = run_block(self._call, leaf, floats)
            torch.autograd.backward(out, gradient)
        found = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        return out.detach(), found

    def _call(self, *arguments: Any, **options: Any) -> Any:
        return functional_call(self.block, self._values, arguments, options)

    def scores(self, name: str) -> Tensor:
        """The score of each entry of a weight: float32, at least 0, in the parameter's shape."""
        return self._squares[name] if name in self._squares else self.gradient(name).square()

    def gradient(self, name: str) -> Tensor:
        """The sum over windows of a weight's gradients, where no squares are summed; float32."""
        leaf = self._leaves[name]
        return torch.zeros_like(leaf).detach() if leaf.grad is None else leaf.grad


def block_values(block: nn.Module) -> dict[str, Tensor]:
    """Parameters and float buffers of a block in float32, decoded, by their names in it."""
    found = {name: in_float32(one) for name, one in block.named_parameters()}
    floats = ((name, one) for name, one in block.named_buffers() if one.is_floating_point())
    return found | {name: one.float() for name, one in floats}


def in_floats(rest: Rest) -> Rest:
    """Other arguments of a block with their float tensors in float32."""
    found: Rest = tree_map(_as_float32, rest)
    return found


def _as_float32(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.float()
    return value
