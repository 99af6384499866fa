"""Float weights that are multiplied as a format rounds them: the straight-through estimator."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils._pytree import tree_leaves

from zolit.errors import UserError
from zolit.formats.base import StoredWeight
from zolit.tensors import product
from zolit.tensors.gradient_product import input_gradient, weight_gradient
from zolit.tensors.reading import Reading
from zolit.tensors.weight import PerturbedWeight


@dataclass(frozen=True)
class Form:
    """How a float weight is rounded whenever it is read.

    Attributes:
        store: the format: gets ``[rows, columns]`` floats and the path of the weight.
        reading: state that the weights of a model share.
        path: name of the parameter.
        transposed: the module holds ``[columns, rows]`` (GPT-2's Conv1D).
    """

    store: Callable[[Tensor, str], StoredWeight]
    reading: Reading
    path: str
    transposed: bool


class MasterWeight(nn.Parameter):
    """A float weight that a linear layer multiplies as a format would store it.

    The gradient of the rounded weight is taken as that of the floats (the straight-through
    estimator of Bengio et al. 2013, arXiv 1308.3432), as in LLM-QAT (Liu et al. 2023, arXiv
    2305.17888): the scale follows the largest weight, so that nothing is clipped, and counts as a
    constant. To optimizers it is a tensor of floats like any other.

    The rounded weight is made anew in each pass, forward and backward, and freed after its product.

    Attributes:
        form: how it is rounded.

    Example:
        >>> from zolit.formats.int8 import Int8Weight
        >>> store = lambda floats, path: Int8Weight.quantize(floats, None)
        >>> floats = torch.tensor([[1.0, 0.503]])
        >>> weight = MasterWeight.of(floats, Form(store, Reading(None, "reference"), "w", False))
        >>> F.linear(torch.eye(2), weight).flatten().tolist()  # rounded to multiples of 1 / 127
        [1.0, 0.5039370059967041]
    """

    form: Form

    @classmethod
    def of(cls, floats: Tensor, form: Form) -> "MasterWeight":
        """A weight around some floats, which it shares.

        Args:
            floats: in the module's shape.
            form: how they are rounded.
        """
        made = cls(floats)
        made.form = form
        return made

    def __deepcopy__(self, memo: dict[int, Any]) -> "MasterWeight":
        made = memo[id(self)] = MasterWeight.of(self.data.clone(), self.form)
        return made

    def rounded(self) -> PerturbedWeight:
        """The weight as its format stores it now."""
        form, floats = self.form, self.data
        matrix = (floats.mT if form.transposed else floats).contiguous()
        store = form.store(matrix, form.path)
        return PerturbedWeight(
            store, None, form.reading, form.path, floats.shape, floats.dtype, form.transposed
        )

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        handler = _FUNCTIONS.get(func)
        if handler is not None:
            return handler(*args, **kwargs)
        with torch._C.DisableTorchFunctionSubclass():
            out = func(*args, **kwargs)
        if torch.is_grad_enabled():
            _refuse_use(func, out, (args, kwargs))
        return out


def _refuse_use(func: Callable[..., Any], out: Any, inputs: Any) -> None:
    """Refuse a result that gradients would pass through without the weight being rounded.

    Raises:
        UserError: naming the weight and the operation.
    """
    if not any(isinstance(one, Tensor) and one.grad_fn is not None for one in tree_leaves(out)):
        return
    path = next(one.form.path for one in tree_leaves(inputs) if isinstance(one, MasterWeight))
    raise UserError(
        f"model.tune: {path} is used by the model in {getattr(func, '__name__', func)}, expected "
        "a linear layer, whose weight can be rounded in each pass; take it out of tune"
    )


class _StraightThrough(torch.autograd.Function):
    """``Q(x) @ Q(W).T``; backward ``g @ Q(W)`` for ``x`` and ``g.T @ Q(x)`` for W."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: MasterWeight) -> Tensor:
        ctx.save_for_backward(x, weight)
        return product.matmul(x, weight.rounded())

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        rounded = weight.rounded()
        of_x = input_gradient(gradient, rounded) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = weight_gradient(gradient, x, rounded)
            if weight.form.transposed:
                of_weight = of_weight.mT
            of_weight = of_weight.to(weight.dtype)
        return of_x, of_weight


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    if not isinstance(weight, MasterWeight):  # the input or the bias is one
        raise _misplaced(x, bias)
    return product.add_bias(_StraightThrough.apply(x, weight), bias)


def _addmm(bias: Tensor, x: Tensor, weight: Tensor, **options: Any) -> Tensor:
    if options or not isinstance(weight, MasterWeight):
        raise _misplaced(bias, x, weight)
    return product.add_bias(_StraightThrough.apply(x, weight), bias)


def _misplaced(*tensors: Tensor | None) -> UserError:
    path = next(one.form.path for one in tensors if isinstance(one, MasterWeight))
    return UserError(
        f"model.tune: {path} is no plain factor of a linear layer, expected one that can be "
        "rounded in each pass; take it out of tune"
    )


_FUNCTIONS: dict[Any, Callable[..., Any]] = {F.linear: _linear, torch.addmm: _addmm}
