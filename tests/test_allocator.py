"""Freed memory, in processes of their own: what one test leaves would hide what another does."""

import subprocess
import sys

import pytest

# Temporaries of one size between tensors that stay, as a loader makes them.
SCRIPT = """
import torch
from contextlib import nullcontext
from zolit.allocator import returning_memory

def resident_memory():
    return int(open("/proc/self/statm").read().split()[1]) * 4096

torch.empty(24 << 20, dtype=torch.int8).fill_(1)  # a large block freed: the threshold has grown
before = resident_memory()
kept = []
with returning_memory() if CONTEXT else nullcontext():
    for _ in range(60):
        parts = [torch.ones(3 << 18) for _ in range(3)]
        kept.append(torch.ones(3 << 17, dtype=torch.int8))
        del parts
print(resident_memory() - before - sum(k.nbytes for k in kept))
"""


def left_over(context: bool) -> int:
    script = SCRIPT.replace("CONTEXT", str(context))
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)  # noqa: S603
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_what_is_freed_leaves_the_process() -> None:
    assert left_over(True) < 8 << 20
