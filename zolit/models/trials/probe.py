"""Which parameters of a model a forward reads: found by a forward without numbers.

The model is copied with zeros for all of its tensors. A parameter takes no memory there (one zero
that is read again and again) and a product with one takes no time, so that a model of any size is
asked within a second, loaded or on the meta device, and gives the same answer.
"""

import re
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

Forward = Callable[[nn.Module], Any]
"""Runs a model once, as it will be run."""

_SHAPES = frozenset(
    getattr(torch.ops.aten, name).default
    for kind in ("zeros", "ones", "empty", "full")
    for name in (f"{kind}_like", f"new_{kind}")
)
"""Operations that take a tensor's shape and none of its numbers."""


@torch.no_grad()
def hollow(model: nn.Module) -> nn.Module:
    """A copy of a model with zeros for its parameters, buffers and other tensors, on the CPU.

    Args:
        model: on any device, its weights plain or stored; not changed.
    """
    return deepcopy(model, {id(tensor): _zeros(tensor) for tensor in _tensors(model)})


@torch.no_grad()
def read_parameters(model: nn.Module, forward: Forward) -> set[str] | None:
    """Names of the parameters that the result of a forward depends on, the first of each.

    A layer whose output nobody takes (a pooler) is not among them. What one block or one expert
    reads counts as read in all: which experts a token meets depends on its numbers.

    Args:
        model: see `hollow`.
        forward: gets a hollow copy of it.

    Returns:
        The names; None if the model cannot be run on zeros.
    """
    try:
        copy = hollow(model)
        for module in copy.modules():
            config = getattr(module, "config", None)
            if config is not None and hasattr(config, "_experts_implementation"):
                # The one that does not gather the weights of the experts of each token.
                config._experts_implementation = "eager"
        names = dict(copy.named_parameters())
        traces = _Traces(list(names.values()))
        with _Operations(traces), _Products(traces):
            result = forward(copy)
    except Exception:  # a library's own, of any kind: this model asks for numbers
        return None
    found = traces.of(result) | traces.decided
    places = {_place(name) for number, name in enumerate(names) if found >> number & 1}
    return {name for name in names if _place(name) in places}


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    for module in model.modules():
        held = (module._parameters, module._buffers, vars(module))
        yield from (one for group in held for one in group.values() if isinstance(one, Tensor))


def _zeros(tensor: Tensor) -> Tensor:
    if isinstance(tensor, nn.Parameter):
        zero = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
        return nn.Parameter(zero, requires_grad=False)
    return torch.zeros(tensor.shape, dtype=tensor.dtype)


def _place(name: str) -> str:
    """A name without its numbers: the same in all blocks, and for all experts."""
    return re.sub(r"\d+", "", name)


class _Traces:
    """Which parameters each tensor was made from.

    Sets are integers with a bit for each parameter. They are kept by storage, so that what is
    written into a view reaches what it is a view of.

    Args:
        parameters: the first has the lowest bit.

    Attributes:
        decided: the parameters that a number read on the host came from.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.decided = 0
        self._made = {_storage(one): 1 << number for number, one in enumerate(parameters)}

    def of(self, values: Any) -> int:
        """What all tensors in some values, at any depth, were made from."""
        found = 0
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor):
                found |= self._made.get(_storage(leaf), 0)
        return found

    def note(self, inputs: Any, outputs: Any) -> None:
        """What an operation made of its inputs, some of which it may have changed."""
        found = self.of(inputs)
        before = {_storage(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(outputs):
            if isinstance(leaf, Tensor):
                place = _storage(leaf)
                # A new tensor may lie where one was that is gone.
                self._made[place] = found | (self._made.get(place, 0) if place in before else 0)


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class _Operations(TorchDispatchMode):
    """Follows every operation of torch."""

    def __init__(self, traces: _Traces) -> None:
        super().__init__()
        self.traces = traces

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.traces.note(() if func in _SHAPES else (args, kwargs), out)
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            self.traces.decided |= self.traces.of((args, kwargs))
        return out


class _Products(TorchFunctionMode):
    """Makes zeros of products with a parameter, which is what they are."""

    def __init__(self, traces: _Traces) -> None:
        super().__init__()
        self.traces = traces

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.linear and not kwargs and isinstance(args[1], nn.Parameter):
            x, weight = args[0], args[1]
            if x.shape[-1] == weight.shape[-1]:
                out = x.new_zeros(*x.shape[:-1], weight.shape[0])
                self.traces.note(args, out)
                return out
        return func(*args, **kwargs)
