"""Products of the Hessian with a direction, one block after another, exactly.

The directional derivative of a gradient needs no more than the gradient itself does: what a block
gives changes along the direction by a tangent, which is handed on to the next block as hidden
states are; and the gradient that is handed back changes by a curve, which is handed back beside it
(Pearlmutter 1994, "Fast exact multiplication by the Hessian"; here by autograd through autograd).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from zolit.calibration.calls import Rest, run_block
from zolit.calibration.gradients import block_values, with_dtype
from zolit.errors import UserError, first_line
from zolit.models.experts import eager_experts


class BlockCurvature:
    """A block with its weights decoded to float32, and a direction of some of them.

    Memory, in the block's weights as float32: themselves, and as often each scored weight in the
    direction, its gradient, the gradient's derivative, and their sum over windows.

    Args:
        block: at rest, its weights stored in any format or plain.
        along: the direction, by name of the weight, in the module's shape, float32.
    """

    def __init__(self, block: nn.Module, along: Mapping[str, Tensor]) -> None:
        self.block = block
        self._values = block_values(block)
        self._leaves = {name: self._values[name].requires_grad_() for name in along}
        self._along = dict(along)
        self._sums = {name: torch.zeros_like(one) for name, one in along.items()}

    def tangent(self, hidden: Tensor, tangent: Tensor, rest: Rest) -> Tensor:
        """How what the block gives changes, by length of the direction.

        Args:
            hidden: ``[1, length, columns]``, what reaches it.
            tangent: how that changes, float32.
            rest: its other arguments.

        Returns:
            ``[1, length, columns]`` float32.
        """
        with self._twice():
            leaf, out = self._run(hidden, rest)
            # Linear in `any_slope`, so that its derivative by it is the product with the tangents.
            any_slope = torch.zeros_like(out, requires_grad=True)
            change = self._change(out, any_slope, leaf, tangent)
            (found,) = torch.autograd.grad(change, any_slope)
        return found

    def back(
        self, hidden: Tensor, tangent: Tensor, rest: Rest, slope: Tensor, curve: Tensor
    ) -> Tensor:
        """Add a window's derivatives of the gradients of the block's weights to their sums.

        Args:
            hidden: ``[1, length, columns]``, what reaches the block.
            tangent: how that changes, float32.
            rest: its other arguments.
            slope: gradient of the loss by what the block gives, float32.
            curve: how that changes, float32.

        Returns:
            How the gradient of the loss by ``hidden`` changes.
        """
        with self._twice():
            leaf, out = self._run(hidden, rest)
            change = self._change(out, slope, leaf, tangent) + (out * curve).sum()
            found, *products = torch.autograd.grad(
                change, [leaf, *self._leaves.values()], materialize_grads=True
            )
        for total, product in zip(self._sums.values(), products, strict=True):
            total += product
        return found

    def _change(self, out: Tensor, slope: Tensor, leaf: Tensor, tangent: Tensor) -> Tensor:
        """How ``(out * slope).sum()`` changes along the tangent and the direction."""
        inputs = [leaf, *self._leaves.values()]
        slopes = torch.autograd.grad(out, inputs, slope, create_graph=True, materialize_grads=True)
        along = [tangent, *self._along.values()]
        return torch.stack(
            [(one * way).sum() for one, way in zip(slopes, along, strict=True)]
        ).sum()

    def _run(self, hidden: Tensor, rest: Rest) -> tuple[Tensor, Tensor]:
        """What reaches the block as a leaf, and what the block gives."""
        leaf = hidden.detach().float().requires_grad_()
        return leaf, run_block(self._call, leaf, with_dtype(rest))

    def _call(self, *arguments: Any, **options: Any) -> Any:
        return functional_call(self.block, self._values, arguments, options)

    @contextmanager
    def _twice(self) -> Iterator[None]:
        """Inside, results can be derived twice: fused attention has no second derivative."""
        try:
            with torch.enable_grad(), eager_experts(self.block), sdpa_kernel(SDPBackend.MATH):
                yield
        except RuntimeError as error:
            if "not implemented" not in str(error):
                raise
            name = type(self.block).__name__
            raise UserError(
                f"saliency.method: grasp takes second derivatives, which {name} has not "
                f"({first_line(error)}); use fisher"
            ) from error

    def product(self, name: str) -> Tensor:
        """Product of the Hessian with the direction, summed over windows: a weight's part of it."""
        return self._sums[name]

    def value(self, name: str) -> Tensor:
        """A weight, decoded."""
        return self._leaves[name].detach()
