"""Median time of a call, for the scripts beside this one."""

import statistics
import time
from collections.abc import Callable


def median_seconds(call: Callable[[], object], calls: int, warm_up: int) -> float:
    """Median of ``calls`` calls after ``warm_up`` more."""
    times = []
    for _ in range(warm_up + calls):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[warm_up:])
