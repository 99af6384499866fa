"""How the threads of OpenMP wait for one another.

A thread that has finished its part of a product waits for the others. GNU's library, which comes
with torch's wheels, lets it spin for some milliseconds before it sleeps. On an idle machine that is
right: to wake a thread takes as long as a small product. If another process uses one of the cores,
the spinning thread takes the time of the thread it waits for, and a step takes three to five times
as long (docs/performance.md). The setting is read once, when torch is loaded, but the load of a
machine changes. So a thread of this file looks at the machine each second, and lets waiting threads
sleep while other processes need the cores.

How: GNU's library spins only a hundred turns, instead of 300000, while a process has more threads
in its teams than cores (``gomp_throttled_spin_count_var`` in its sources). A team belongs to the
thread that opened it. A second team, opened by a thread that then waits, makes the threads more
than the cores; when that thread ends, the team is gone. The number of threads in a product, the
order of sums and the results stay the same.
"""

import atexit
import os
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables of the user: if one is set, nothing is changed."""

_STAT = Path("/proc/stat")
_TURNS = 1 << 18
"""Elements of a sum that torch gives to several threads."""
_SPARE = 0.3
"""Other processes may use this many cores without effect, as those of an idle desktop do."""


def share_cores(environment: Mapping[str, str] = os.environ, every: float = 1.0) -> None:
    """Let waiting threads sleep while other processes need the cores.

    Not if the user has set how they wait. A second call has no effect. Works with GNU's OpenMP
    library on Linux, and has no effect elsewhere.

    Args:
        environment: variables of this process.
        every: seconds between two looks at the machine.
    """
    asked = any(name in environment for name in SETTINGS)
    if asked or any(isinstance(t, _Watch) for t in threading.enumerate()):
        return
    try:
        Moment()
    except (AttributeError, OSError, ValueError):
        return  # the system does not report the use of its cores
    watch = _Watch(every)
    watch.start()
    # Python kills the threads that are left at its end; one within torch would abort the process.
    atexit.register(watch.end)


def busy_cores(before: "Moment", after: "Moment") -> float:
    """How many cores other processes used between two moments."""
    seconds = max(after.clock - before.clock, 1e-3)
    return (after.machine - before.machine - (after.own - before.own)) / seconds


class Moment:
    """Processor seconds so far: of all cores that this process may use, and of the process.

    Raises:
        AttributeError, OSError, ValueError: if the system does not report them.
    """

    def __init__(self) -> None:
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        ticks = 0
        for line in _STAT.read_text(encoding="ascii").splitlines():
            name, *fields = line.split()
            if name in cores:
                user, nice, system, _idle, _waiting, irq, softirq = map(int, fields[:7])
                ticks += user + nice + system + irq + softirq
        self.machine = ticks / os.sysconf("SC_CLK_TCK")
        self.own = time.process_time()
        self.clock = time.monotonic()


class _Watch(threading.Thread):
    """Looks at the machine, and opens or closes the second team."""

    def __init__(self, every: float) -> None:
        super().__init__(name="zolit-cores", daemon=True)
        self.every = every
        self._ended = threading.Event()

    def run(self) -> None:
        before, team = Moment(), None
        while not self._ended.wait(self.every):
            torch = sys.modules.get("torch")
            after = Moment()
            if torch is not None and hasattr(torch, "get_num_threads"):
                free = len(os.sched_getaffinity(0)) - busy_cores(before, after)
                crowded = free + _SPARE < torch.get_num_threads()
                if crowded and team is None:
                    team = _Team()
                    team.start()
                elif not crowded and team is not None:
                    team.close()
                    team = None
            before = after
        if team is not None:
            team.close()

    def end(self) -> None:
        self._ended.set()
        self.join()


class _Team(threading.Thread):
    """Opens a team of its own and keeps it until it is closed."""

    def __init__(self) -> None:
        super().__init__(name="zolit-team", daemon=True)
        self._closed = threading.Event()

    def run(self) -> None:
        import torch

        torch.zeros(_TURNS).add_(1)
        self._closed.wait()

    def close(self) -> None:
        self._closed.set()
        self.join()
