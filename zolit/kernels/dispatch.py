"""Every kernel has two executions: compiled by inductor, or the plain torch function itself."""

import functools
import shutil
import warnings
from collections.abc import Callable
from typing import Any, Literal

import torch

Preference = Literal["auto", "compiled", "reference"]

_VARIANTS = 64
"""Most compilations of one kernel in a process. Each direction, dtype, number of copies and
dimension of length 1 needs one of its own, and torch by default refuses the ninth."""

# Inductor stores an intermediate value that several results need, if it was made from more than a
# few tensors. A paired read would store its noise, four bytes for each coordinate. To make the
# noise twice costs only registers.
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
    """Whether kernels run compiled. Warns once where ``auto`` finds no compiler."""
    if preference != "auto":
        return preference == "compiled"
    if not compiler_found():
        _warn_once("no C++ compiler was found")
    return compiler_found()


def failed_to_compile(error: BaseException) -> bool:
    """Whether an error is one of torch's compiler, such as of a C++ compiler that was ended."""
    from torch._dynamo.exc import TorchDynamoException

    return isinstance(error, TorchDynamoException)


class Kernel:
    """A plain torch function that also runs compiled; the function itself is the reference.

    Shapes are dynamic, so the many layer shapes of a model share one compilation. Each value of a
    static argument (a `Direction`, an output dtype) needs a compilation of its own.

    Example:
        >>> @kernel
        ... def add_one(out):
        ...     out.copy_(out + 1)
        >>> numbers = torch.zeros(2)
        >>> add_one(numbers, preference="reference")
        >>> numbers
        tensor([1., 1.])
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.reference = function

    @functools.cached_property
    def compiled(self) -> Callable[..., Any]:
        """The reference, compiled by inductor at its first call."""
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

        On the meta device, where ``zolit estimate`` counts memory, a compiled kernel does nothing:
        it would only write to its arguments. So its temporaries are not counted.

        Args:
            args: arguments of the function.
            preference: ``compiled``, ``reference``, or ``auto``: compiled if a compiler is found.
            kwargs: keyword arguments of the function.
        """
        if not is_compiled(preference):
            return self.reference(*args, **kwargs)
        first = args[0]
        while not isinstance(first, torch.Tensor):  # a list or a NamedTuple of tensors
            first = first[0]
        return None if first.is_meta else self.compiled(*args, **kwargs)


def kernel(function: Callable[..., Any]) -> Kernel:
    """Decorator that makes a plain torch function a `Kernel`."""
    return Kernel(function)
