"""One process for each type of model, with a limit of memory and of time.

Workers are forked from a process that has imported torch, transformers and zolit.
"""

import multiprocessing
import os
import resource
from collections.abc import Callable, Iterator
from typing import Any

import torch

MEMORY, SECONDS = 4 << 30, 300
"""Bytes of data and seconds that a type may take."""


def walk(
    cases: list[tuple[str, str]],
    examine: Callable[..., dict[str, Any]],
    seconds: int = SECONDS,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """The result of each case, in their order.

    Args:
        cases: type and kind of each.
        examine: run in the process, with type and kind first; its result is sent back.
        seconds: after which a process is ended.
        options: of ``examine``.
    """
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    for model_type, kind in cases:
        here, there = context.Pipe(duplex=False)
        process = context.Process(
            target=_run, args=(there, examine, model_type, kind), kwargs=options
        )
        process.start()
        there.close()
        row: dict[str, Any] = {"type": model_type, "kind": kind}
        try:
            if here.poll(seconds):
                row = here.recv()
            else:
                row["built"] = f"not built: took more than {seconds} s"
        except EOFError:
            process.join(5)
            row["built"] = f"not built: its process ended with {process.exitcode}"
        process.kill()
        process.join(5)
        yield row


def _run(pipe: Any, examine: Any, model_type: str, kind: str, **options: Any) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    pipe.send(examine(model_type, kind, **options))
