"""Wrappers around the calls of a module, in one fixed order.

If a module has ``_compiled_call_impl``, torch calls it instead of ``_call_impl``, which runs hooks
and forward. Only this file sets it. `Stage` is the order of the wrappers, whichever is added first:
a block that runs once for both signs of a pair runs its compiled code inside.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

from torch import nn
from torch._dynamo import OptimizedModule

from zolit.errors import UserError

Call = Callable[..., Any]
Wrap = Callable[[Call], Call]
"""Makes a new call from the call that it wraps."""


class Stage(IntEnum):
    """The kinds of wrappers around a module, the innermost first."""

    COMPILED = 0
    """The compiled code of a block (`zolit.models.passes.compiled_blocks`)."""
    PREFIX = 1
    """A block that runs once for several passes (`zolit.models.passes.prefix`)."""
    ANSWERS = 2
    """The output layer for a few answers (`zolit.models.passes.answer_head`)."""
    GIVEN = 3
    """A block that is not run, as its outputs are known (`zolit.calibration.ending`)."""
    RECOMPUTED = 4
    """A block that runs again in the backward pass (`zolit.models.passes.recomputed`)."""


class _Calls:
    """The stages of one module.

    Args:
        inner: its hooks and forward.
    """

    def __init__(self, inner: Call) -> None:
        self.inner = self.outer = inner
        self.stages: dict[Stage, Wrap] = {}

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self.outer(*arguments, **options)

    def put(self, stage: Stage, wrap: Wrap | None) -> Wrap | None:
        """Set or remove a stage; returns the one that was there before."""
        before = self.stages.pop(stage, None)
        if wrap is not None:
            self.stages[stage] = wrap
        self.outer = self.inner
        for one in sorted(self.stages):
            self.outer = self.stages[one](self.outer)
        return before


def wrap_call(module: nn.Module, stage: Stage, wrap: Wrap | None) -> Wrap | None:
    """Wrap the calls of a module; a wrapper of the same stage is replaced.

    A copy of the module has no wrappers.

    Args:
        module: changed in place.
        stage: the place of the wrapper among others.
        wrap: gets the call that it wraps; None removes the wrapper.

    Returns:
        The stage that was there before.

    Raises:
        UserError: if the module was compiled by its own ``compile()``.

    Example:
        >>> layer = nn.Identity()
        >>> _ = wrap_call(layer, Stage.PREFIX, lambda inner: lambda x: inner(x) + 1)
        >>> layer(1)
        2
        >>> _ = wrap_call(layer, Stage.PREFIX, None)
        >>> layer(1)
        1
    """
    _check(module, type(module).__name__)
    calls: Any = module._compiled_call_impl or _Calls(module._call_impl)
    before: Wrap | None = calls.put(stage, wrap)
    module._compiled_call_impl = calls if calls.stages else None
    return before


@contextmanager
def wrapped_call(module: nn.Module, stage: Stage, wrap: Wrap) -> Iterator[None]:
    """`wrap_call` inside this context only."""
    before = wrap_call(module, stage, wrap)
    try:
        yield
    finally:
        wrap_call(module, stage, before)


@contextmanager
def unwrapped(modules: Iterable[nn.Module], *stages: Stage) -> Iterator[None]:
    """Inside this context the calls of some modules have no wrappers of these stages.

    Args:
        modules: such as the blocks of a model.
        stages: those that are left out; the others stay.
    """
    before = [
        (module, stage, wrap)
        for module in modules
        for stage in stages
        if (wrap := wrap_call(module, stage, None)) is not None
    ]
    try:
        yield
    finally:
        for module, stage, wrap in before:
            wrap_call(module, stage, wrap)


def check_calls(model: nn.Module) -> None:
    """Refuse a model of which a module was compiled by its own ``compile()``.

    Its code would replace the wrappers, and would keep the values that weights read as when it
    was compiled.

    Raises:
        UserError: naming the module.
    """
    for path, module in model.named_modules():
        _check(module, path or type(model).__name__)


def _check(module: nn.Module, name: str) -> None:
    call = getattr(module, "_compiled_call_impl", None)
    if isinstance(module, OptimizedModule) or not (call is None or isinstance(call, _Calls)):
        raise UserError(
            f"compile: got {name} compiled by torch already, expected a model that is not, since "
            "compiled code would keep what the weights read as now; leave its compile() out and "
            "set compile: blocks"
        )
