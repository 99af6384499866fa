"""Give freed memory back to the system."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Parameters of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SET_BY_USER = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")

LARGE = 1 << 19
"""Bytes from which a block is mapped by itself while memory is returned."""

_MOST = 32 << 20
"""The size that glibc's own threshold grows to in a process that frees large blocks."""


@contextmanager
def returning_memory() -> Iterator[None]:
    """Inside this context large blocks that are freed leave the process at once.

    Between weights that stay, glibc cannot put a new temporary where one of the same size has been:
    it asks for room to align it as well. Loading a model in which each weight takes temporaries
    would leave a hole beside each. Mapped by itself a block leaves none; it costs page faults, so
    that steps, whose activations find their places again, run outside of this context.

    Does nothing where the C library is not glibc, or where the environment sets its thresholds.
    """
    library = _glibc()
    if library is None:
        yield
        return
    library.mallopt(_MMAP_THRESHOLD, LARGE)
    try:
        yield
    finally:
        # Having been set they no longer grow by themselves: these are what they would grow to.
        library.mallopt(_MMAP_THRESHOLD, _MOST)
        library.mallopt(_TRIM_THRESHOLD, 2 * _MOST)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _SET_BY_USER):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
