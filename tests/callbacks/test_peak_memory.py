import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from zolit.callbacks.peak_memory import (
    memory_kind,
    peak_memory,
    reset_peak_memory,
    resident_memory,
)

BYTES = 1 << 28

MODULE = sys.modules[peak_memory.__module__]


def test_peak_rises_with_what_is_allocated() -> None:
    if memory_kind() == "cuda":
        reset_peak_memory()
    before = peak_memory()
    held = torch.ones(BYTES, dtype=torch.uint8, device="cuda" if memory_kind() == "cuda" else "cpu")
    after = peak_memory()
    del held
    assert before > 0
    assert after >= before
    reset_peak_memory()
    assert peak_memory() <= after


@pytest.fixture
def without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MODULE, "memory_kind", lambda: "resident")
    monkeypatch.setattr(MODULE, "_status", lambda field: None)


@pytest.mark.usefixtures("without_proc")
def test_macos_counts_bytes_and_other_systems_kilobytes(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    usage = SimpleNamespace(ru_maxrss=3_000_000)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory() == 3_000_000
    monkeypatch.setattr(sys, "platform", "freebsd14")
    assert peak_memory() == 3_000_000 * 1024
    assert resident_memory() == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


@pytest.mark.usefixtures("without_proc")
def test_windows_tells_the_peak_of_the_working_set(monkeypatch: pytest.MonkeyPatch) -> None:
    memory: Any = SimpleNamespace(rss=2_000, peak_wset=5_000)
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(psutil, "Process", lambda: SimpleNamespace(memory_info=lambda: memory))
    assert (peak_memory(), resident_memory()) == (5_000, 2_000)
