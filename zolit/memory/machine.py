"""How much memory this machine has for a run, and whether that is enough."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import torch

_GROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 1 << 60
"""Cgroups of version 1 write a number about this large where there is no limit."""


@dataclass(frozen=True)
class Machine:
    """Memory of a machine, in bytes.

    Attributes:
        total: all that it has, or that its container may use.
        free: what a new process could have now, with this one gone.

    Example:
        >>> Machine(total=8 << 30, free=2 << 30).total
        8589934592
    """

    total: int
    free: int


def machine_memory(device: torch.device, mine: int) -> Machine:
    """The memory of this machine that a run on a device would use.

    On the CPU the limits of a container count (cgroups of both versions), where they are lower.

    Args:
        device: that the run computes on.
        mine: bytes that this process holds now, which the run's would have instead.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return Machine(int(total), int(free))
    memory = psutil.virtual_memory()
    limits = [(memory.total, memory.available), *_limits(_GROUPS, Path("/proc/self/cgroup"))]
    total = min(total for total, _ in limits)
    return Machine(total, min(total, min(free for _, free in limits) + mine))


def verdict(needed: int, machine: Machine) -> str:
    """A sentence for the user: whether a run fits, and what to do if not.

    Args:
        needed: bytes at the peak of the run.
        machine: that it is to run on.
    """
    has = f"this machine has {_mb(machine.total)} MB, {_mb(machine.free)} of them free"
    if needed <= machine.free:
        return f"The run fits: {has}."
    if needed <= machine.total:
        return (
            f"The run fits only with less beside it: {has}, and the run needs {_mb(needed)}; end "
            "other programs, or lower data.batch_size."
        )
    return (
        f"The run does not fit: {has}, and the run needs {_mb(needed)}; lower data.batch_size or "
        "data.max_length, take a quantizer of fewer bits, or a smaller model."
    )


def _mb(size: int) -> str:
    return f"{size / 1e6:.0f}"


def _limits(groups: Path, own: Path) -> Iterator[tuple[int, int]]:
    """Limit and what is left of it, of each control group that this process is in.

    Args:
        groups: where the system shows its control groups.
        own: the file that names those of this process.
    """
    try:
        lines = own.read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, kinds, path = (*line.split(":", 2), "", "")[:3]
        if kinds and "memory" not in kinds.split(","):
            continue
        names = ("memory.max", "memory.current")
        root = groups
        if kinds:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
            root = groups / "memory"
        place = root / path.strip("/")
        # A container may show its own group as the root, under whatever name the host has for it.
        for folder in (root, *_below(root, place)):
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None and limit < _UNLIMITED:
                cache = _cache(folder / "memory.stat")
                yield limit, max(0, limit - used + cache)


def _below(root: Path, place: Path) -> Iterator[Path]:
    while place != root and root in place.parents:
        yield place
        place = place.parent


def _number(file: Path) -> int | None:
    """The number in a file; None where there is no file, or ``max``."""
    try:
        return int(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _cache(file: Path) -> int:
    """Bytes of files that the system gives back when memory is short."""
    try:
        fields = dict(line.split() for line in file.read_text(encoding="ascii").splitlines())
        return int(fields.get("inactive_file", 0))
    except (OSError, ValueError):
        return 0
