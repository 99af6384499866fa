"""Runs that are killed, told to stop, or meet a full disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_killed_at_random_moments() -> None:
    """benchmarks/kill.py with 100 kills is the long form."""
    command = [sys.executable, str(ROOT / "benchmarks" / "kill.py"), "--kills", "8", "--steps=60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["kills"] == 8
    assert found["runs"] >= 1
    assert found["steps_lost"] == 0
