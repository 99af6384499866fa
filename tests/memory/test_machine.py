"""Whether the machine has the memory for a run: limits of containers, and the sentence."""

import os
from pathlib import Path

import psutil
import pytest
import torch

from zolit.memory import machine
from zolit.memory.machine import Machine, machine_memory, verdict

GB = 10**9


def test_this_machine() -> None:
    found = machine_memory(torch.device("cpu"), 0)
    assert 0 < found.free <= found.total <= psutil.virtual_memory().total
    # With this process gone there is more; never more than all.
    more = machine_memory(torch.device("cpu"), 10**8)
    assert more.free > found.free - 10**8 // 2
    assert machine_memory(torch.device("cpu"), 1 << 60).free == found.total


def groups(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")
    return folder


def test_limits_of_version_2(tmp_path: Path) -> None:
    """The group and each group around it; what can be given back is free."""
    root = groups(
        tmp_path / "groups",
        {
            "outer/memory.max": f"{4 * GB}\n",
            "outer/memory.current": f"{3 * GB}\n",
            "outer/inner/memory.max": "max\n",
            "outer/inner/memory.current": f"{GB}\n",
            "outer/inner/own/memory.max": f"{2 * GB}\n",
            "outer/inner/own/memory.current": f"{GB}\n",
            "outer/inner/own/memory.stat": f"anon 5\ninactive_file {GB // 2}\n",
        },
    )
    own = tmp_path / "own"
    own.write_text("0::/outer/inner/own\n", encoding="ascii")
    found = sorted(machine._limits(root, own))
    assert found == [(2 * GB, GB + GB // 2), (4 * GB, GB)]


def test_limits_of_version_1(tmp_path: Path) -> None:
    """The group is mounted as the root; without a limit there is a number beyond any memory."""
    root = groups(
        tmp_path / "groups",
        {
            "memory/memory.limit_in_bytes": f"{GB}\n",
            "memory/memory.usage_in_bytes": f"{GB // 4}\n",
            "memory/job/memory.limit_in_bytes": "9223372036854771712\n",
            "memory/job/memory.usage_in_bytes": "100\n",
        },
    )
    own = tmp_path / "own"
    own.write_text("5:cpu,memory:/job\n2:cpuacct:/job\n", encoding="ascii")
    assert list(machine._limits(root, own)) == [(GB, GB - GB // 4)]


def test_no_groups(tmp_path: Path) -> None:
    assert list(machine._limits(tmp_path, tmp_path / "none")) == []


def test_a_container_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = groups(tmp_path / "g", {"memory.max": "1000\n", "memory.current": "400\n"})
    own = tmp_path / "own"
    own.write_text("0::/\n", encoding="ascii")
    limits = list(machine._limits(root, own))
    monkeypatch.setattr(machine, "_limits", lambda *_: limits)
    assert machine_memory(torch.device("cpu"), 50) == Machine(1000, 650)


@pytest.mark.parametrize(
    ("needed", "said"),
    [(GB, "The run fits:"), (3 * GB, "only with less beside it"), (9 * GB, "does not fit")],
)
def test_the_sentence(needed: int, said: str) -> None:
    told = verdict(needed, Machine(total=8 * GB, free=2 * GB))
    assert told.startswith("The run")
    assert said in told
    assert "8000 MB, 2000 of them free" in told
    assert told.endswith(".")
    assert os.linesep not in told
