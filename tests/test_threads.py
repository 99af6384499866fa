"""Waiting threads sleep while other processes need the cores: looked at from outside."""

import os
import subprocess
import sys
import threading

import pytest

from zolit import threads
from zolit.threads import SETTINGS, Moment, busy_cores, share_cores

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/stat")

# A machine of two cores that others leave alone or use; teams are counted while it goes on.
SCRIPT = """
import os, threading, time
from unittest import mock

import torch

from zolit import threads

torch.set_num_threads(2)
others = 0.0

def teams():
    return sum(type(one).__name__ == "_Team" for one in threading.enumerate())

def settled(wanted):
    end = time.monotonic() + 60
    while teams() != wanted and time.monotonic() < end:
        time.sleep(0.01)
    return teams()

with mock.patch.object(threads, "busy_cores", lambda before, after: others), \
        mock.patch.object(os, "sched_getaffinity", lambda pid: {0, 1}):
    threads.share_cores({}, every=0.01)
    threads.share_cores({}, every=0.01)
    before = torch.arange(1 << 20, dtype=torch.float32).sum()
    quiet = settled(0)
    others = 1.0
    busy = settled(1)
    assert torch.equal(before, torch.arange(1 << 20, dtype=torch.float32).sum())
    others = 0.1
    print(quiet, busy, settled(0), sum(t.name == "zolit-cores" for t in threading.enumerate()))
"""


@linux
def test_a_team_is_open_while_others_use_a_core():
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["0", "1", "0", "1"]


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_of_the_user_is_left_alone(name):
    share_cores({name: "as the user likes"})
    assert not [one for one in threading.enumerate() if one.name == "zolit-cores"]


def no_file(monkeypatch, folder):
    monkeypatch.setattr(threads, "_STAT", folder / "none")


def other_columns(monkeypatch, folder):
    (folder / "stat").write_text("cpu0 1 2\ncpu1 1 2\n", encoding="ascii")
    monkeypatch.setattr(threads, "_STAT", folder / "stat")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)


def no_affinity(monkeypatch, folder):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)


def no_clock(monkeypatch, folder):
    monkeypatch.delattr(os, "sysconf", raising=False)


@pytest.mark.parametrize("lacks", [no_file, other_columns, no_affinity, no_clock])
def test_where_the_system_does_not_tell_nothing_is_started(lacks, monkeypatch, tmp_path):
    lacks(monkeypatch, tmp_path)
    share_cores({})
    assert not [one for one in threading.enumerate() if one.name == "zolit-cores"]


@linux
def test_the_cores_of_others_are_those_of_the_machine_without_its_own():
    before, after = Moment(), Moment()
    before.machine, before.own, before.clock = 100.0, 10.0, 5.0
    after.machine, after.own, after.clock = 103.5, 11.0, 7.0
    assert busy_cores(before, after) == 1.25


@linux
def test_a_moment_counts_the_process(monkeypatch):
    before = Moment()
    while (after := Moment()).own < before.own + 0.2:
        sum(range(1000))
    assert after.machine >= before.machine + 0.1
    assert after.clock > before.clock
