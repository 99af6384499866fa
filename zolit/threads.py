"""How the threads of OpenMP wait for one another.

By default a thread that is done with its part of a product spins until the others are. Where
another process holds one of the cores, it spins away the time that the thread it waits for needs,
and a step takes several times as long (docs/performance.md). Imports nothing heavy: the settings
are read when torch is loaded, so they are made before.
"""

import os
from collections.abc import MutableMapping

SLEEP = {
    "OMP_WAIT_POLICY": "PASSIVE",  # GNU's library, which torch's wheels bring, and most others
    "KMP_BLOCKTIME": "0",  # Intel's and LLVM's, milliseconds
}

_OTHERS = ("GOMP_SPINCOUNT",)


def sleep_while_waiting(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let waiting threads sleep, unless the user has said how they wait.

    Has no effect on a process that has loaded torch already; processes that it starts inherit it.

    Args:
        environment: variables to set, by default those of this process.
    """
    if not any(name in environment for name in (*SLEEP, *_OTHERS)):
        environment.update(SLEEP)
