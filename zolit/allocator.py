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
"""While memory is returned, blocks of at least this many bytes get pages of their own."""

_MOST = 32 << 20
"""The size that glibc's own threshold grows to in a process that frees large blocks."""


@contextmanager
def returning_memory() -> Iterator[None]:
    """Inside this context large blocks that are freed leave the process at once.

    Loading a model makes temporaries for each weight, between weights that stay. glibc cannot put a
    new temporary into the hole that one of the same size left: it also asks for room to align it.
    So each weight would leave a hole beside it. A block with pages of its own leaves none, at the
    cost of page faults. Steps run outside of this context: their activations fit into the same
    places each time.

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
        # Thresholds that were set no longer grow by themselves: set what they would grow to.
        library.mallopt(_MMAP_THRESHOLD, _MOST)
        library.mallopt(_TRIM_THRESHOLD, 2 * _MOST)
        library.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux") or any(name in os.environ for name in _SET_BY_USER):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
