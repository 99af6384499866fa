"""Runs that are killed, told to stop, or meet a full disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


SCORES = ["--recipe", str(ROOT / "configs/senszoq/int4_rotten_tomatoes.yaml"), "--steps=10"]
"""A recipe that scores its weights when it starts."""


@pytest.mark.slow
@pytest.mark.parametrize("options", [["--steps=60"], SCORES], ids=["codes", "scores"])
def test_killed_at_random_moments(options: list[str]) -> None:
    """benchmarks/kill.py with 100 kills is the long form."""
    command = [sys.executable, str(ROOT / "benchmarks" / "kill.py"), "--kills", "8", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == 8
    assert found["runs"] >= 1
    assert found["steps_lost"] == 0


@pytest.mark.slow
def test_pruning_killed_at_random_moments() -> None:
    """benchmarks/kill_pruning.py with 20 kills of each method is the long form."""
    script = str(ROOT / "benchmarks" / "kill_pruning.py")
    command = [sys.executable, script, "--kills", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == 4
    assert all(one["kills"] == 3 and one["runs"] >= 1 for one in found)
