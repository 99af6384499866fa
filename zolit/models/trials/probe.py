"""Finds which parameters of a model a forward reads and which it changes, without their numbers.

The model runs with stand-ins for its weights (`zolit.models.trials.stand_ins`). They take no memory
and no time to multiply by, so a model of any size is tried within a second. A loaded model and one
on the meta device give the same answer.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zolit.models.trials.stand_ins import STOOD_FOR, StandIns, make_blank

Forward = Callable[[nn.Module], Any]
"""Runs a model once, as the objective does."""

_SHAPES = frozenset(
    getattr(torch.ops.aten, name).default
    for kind in ("zeros", "ones", "empty", "full")
    for name in (f"{kind}_like", f"new_{kind}")
)
"""Operations that take a tensor's shape and none of its numbers."""


@dataclass(frozen=True)
class Touched:
    """What a forward does with a model's parameters.

    Attributes:
        read: names of the parameters that its result depends on; a tied one by its first name.
        changed: names of the parameters that it writes to in place.
    """

    read: frozenset[str]
    changed: frozenset[str]


def find_touched(model: nn.Module, forward: Forward) -> Touched | None:
    """Find the parameters that a forward reads, and those that it changes.

    A layer whose output is not used, such as a pooler, is not read. A parameter that one block or
    expert reads counts as read in all, since the numbers of a token decide which experts it meets.

    Args:
        model: on any device, its weights plain or stored; not changed.
        forward: gets a copy of it, see `make_blank`.

    Returns:
        The names; None if the model cannot be run on stand-ins.
    """
    try:
        copy = make_blank(model)
        for module in copy.model.modules():
            config = getattr(module, "config", None)
            if config is not None and hasattr(config, "_experts_implementation"):
                # Of transformers' functions the one that does not gather weights for each token.
                config._experts_implementation = "eager"
        names = dict(copy.model.named_parameters())
        traces = _Traces(list(names.values()))

        def follow(network: nn.Module) -> Any:
            with _Operations(traces), _Products(traces):
                return forward(network)

        result = StandIns(copy).run(follow)
    except Exception:  # a library's own, of any kind: this model asks for numbers
        return None
    found = traces.of(result) | traces.decided
    places = {_place(name) for number, name in enumerate(names) if found >> number & 1}
    read = frozenset(name for name in names if _place(name) in places)
    changed = (name for number, name in enumerate(names) if traces.changed >> number & 1)
    return Touched(read, frozenset(changed))


def _place(name: str) -> str:
    """A name without its numbers: the same in all blocks, and for all experts."""
    return re.sub(r"\d+", "", name)


class _Traces:
    """Which parameters each tensor was made from.

    Sets are integers with a bit for each parameter. They are kept by storage, so that a write to a
    view also counts for the tensor that it is a view of.

    Args:
        parameters: the first has the lowest bit.

    Attributes:
        decided: the parameters behind numbers that were read on the host.
        changed: the parameters that were written to.
    """

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.decided = self.changed = 0
        self._own = {_storage(one): 1 << number for number, one in enumerate(parameters)}
        self._made = dict(self._own)

    def writes(self, target: Tensor) -> bool:
        """Whether a written tensor is a parameter or a view of one; if so, it is noted."""
        own = self._own.get(_storage(target), 0)
        self.changed |= own
        return own != 0

    def of(self, values: Any) -> int:
        """The parameters that all tensors in some values, at any depth, were made from."""
        found = 0
        for leaf in tree_leaves(values):
            if isinstance(leaf, Tensor):
                found |= self._made.get(_storage(leaf), 0)
        return found

    def note(self, inputs: Any, outputs: Any) -> None:
        """Note the inputs of an operation for its outputs, and for inputs that it has changed."""
        found = self.of(inputs)
        before = {_storage(leaf) for leaf in tree_leaves(inputs) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(outputs):
            if isinstance(leaf, Tensor):
                place = _storage(leaf)
                # The memory may have belonged to another tensor that is gone.
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
        if args and _is_in_place(func) and self.traces.writes(args[0]):
            return args[0]  # a stand-in has no numbers to change
        out = func(*args, **kwargs)
        self.traces.note(() if func in _SHAPES else (args, kwargs), out)
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
            self.traces.decided |= self.traces.of((args, kwargs))
        return out


def _is_in_place(func: Any) -> bool:
    """Whether an operation writes to its first argument, a tensor."""
    first = func._schema.arguments[0]
    return (
        first.alias_info is not None and first.alias_info.is_write and str(first.type) == "Tensor"
    )


class _Products(TorchFunctionMode):
    """Follows the results of stand-ins, which are made without an operation on the weight."""

    def __init__(self, traces: _Traces) -> None:
        super().__init__()
        self.traces = traces

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if func in STOOD_FOR:
            self.traces.note((args, kwargs), out)
        return out
