"""How much memory the process has needed."""

import sys
from pathlib import Path
from typing import Literal

import psutil
import torch

MemoryKind = Literal["cuda", "resident"]


def memory_kind() -> MemoryKind:
    """Which memory is measured: CUDA's once a model runs there, else the resident set."""
    return "cuda" if torch.cuda.is_initialized() else "resident"


def reset_peak_memory() -> None:
    """Start a new peak. On systems where a process cannot, the old peak stays."""
    if memory_kind() == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_memory() -> int:
    """Bytes at the peak since the process, or ``reset_peak_memory``, began.

    On a GPU: the bytes that torch has allocated, on the device with the most. Else: the resident
    set, which includes Python and the libraries, about 0.5 GB.
    """
    if memory_kind() == "cuda":
        devices = range(torch.cuda.device_count())
        return max(torch.cuda.max_memory_allocated(device) for device in devices)
    peak = _status("VmHWM:")
    return _peak_elsewhere() if peak is None else peak


def resident_memory() -> int:
    """Bytes of the process that are in memory now."""
    resident = _status("VmRSS:")
    return int(psutil.Process().memory_info().rss) if resident is None else resident


def _status(field: str) -> int | None:
    """A figure of /proc/self/status in bytes; None on systems without this file."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        line = next(line for line in status.splitlines() if line.startswith(field))
        return int(line.split()[1]) * 1024
    except (OSError, StopIteration):
        return None


def _peak_elsewhere() -> int:
    try:
        import resource
    except ImportError:  # Windows, whose figures of a process name their peak
        return int(psutil.Process().memory_info().peak_wset)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
