"""One rule for every kernel: compiled by inductor where that works, else the reference."""

import functools
import shutil
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch

Preference = Literal["auto", "compiled", "reference"]

_VARIANTS = 64
"""Compilations that one kernel may have in a process: torch refuses the ninth by default, and
direction, dtypes, number of copies and dimensions of length 1 each make one."""

# Inductor stores a value that several results use once it reads more than a few tensors. A paired
# read would keep its noise so, four bytes a coordinate; making it twice costs registers only.
_FUSED = {
    "realize_reads_threshold": 10_000,
    "realize_acc_reads_threshold": 10_000,
    "realize_opcount_threshold": 10_000,
}


@functools.cache
def compiler_found() -> bool:
    """Whether inductor has a C++ compiler (or, on CUDA, Triton) to work with."""
    from torch._inductor import config

    candidates = config.cpp.cxx if isinstance(config.cpp.cxx, list | tuple) else (config.cpp.cxx,)
    return torch.cuda.is_available() or any(c and shutil.which(c) for c in candidates)


@functools.cache
def _warn_once(reason: str) -> None:
    warnings.warn(
        f"kernels=auto runs the plain torch reference, several times slower: {reason}. "
        "Install a C++ compiler (g++ or clang) to compile the kernels.",
        stacklevel=3,
    )


def is_compiled(preference: Preference) -> bool:
    """Whether kernels run compiled; warns once where ``auto`` finds no compiler."""
    if preference != "auto":
        return preference == "compiled"
    if not compiler_found():
        _warn_once("no C++ compiler was found")
    return compiler_found()


class Kernel:
    """A function of tensors with two executions: itself, and itself compiled.

    The function is its own reference. Shapes are dynamic, so the many layer shapes of a model
    share one compilation. Static arguments (a `Direction`, an output dtype) make one each.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.reference = function

    @functools.cached_property
    def compiled(self) -> Callable[..., Any]:
        """The inductor build of the reference; compiles on first call."""
        # recompile_limit is documented, but missing from the overloads of torch 2.13.
        return torch.compile(  # type: ignore[call-overload]
            self.reference,
            dynamic=True,
            fullgraph=True,
            recompile_limit=_VARIANTS,
            options=_FUSED,
        )

    def __call__(self, *args: Any, preference: Preference = "auto", **kwargs: Any) -> Any:
        """Run the kernel.

        A compiled kernel writes to its arguments, so that on the meta device, where `zolit
        estimate` counts memory, there is nothing to do. Its temporaries are not counted.

        Args:
            args: arguments of the function.
            preference: ``compiled``, ``reference``, or ``auto``: compiled if a compiler is found.
            kwargs: keyword arguments of the function.
        """
        if not is_compiled(preference):
            return self.reference(*args, **kwargs)
        first = args[0]
        while not isinstance(first, torch.Tensor):  # of a list or of a tuple with names
            first = first[0]
        return None if first.is_meta else self.compiled(*args, **kwargs)


def kernel(function: Callable[..., Any]) -> Kernel:
    """Decorator that makes a plain torch function a `Kernel`."""
    return Kernel(function)
