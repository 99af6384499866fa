"""The environment of a run, which can change the last bits of its losses."""

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

PACKAGES = ("zolit", "torch", "torchao", "transformers", "lightning")


def library_versions() -> dict[str, str | None]:
    """Versions of the libraries that a run computes with; None where one is not installed."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def environment(device: torch.device, compiled: bool) -> dict[str, Any]:
    """Library versions, device, threads, instructions and kernels, in plain values.

    Args:
        device: that the run computes on.
        compiled: whether its kernels are compiled.
    """
    cuda = device.type == "cuda"
    return {
        **library_versions(),
        "device": torch.cuda.get_device_name(device) if cuda else device.type,
        "instructions": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "threads": torch.get_num_threads(),
        "kernels": "compiled" if compiled else "reference",
    }
