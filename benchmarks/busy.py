"""What a step costs on an idle machine and beside another busy process, by how threads wait.

    OMP_NUM_THREADS=2 python benchmarks/busy.py --json busy.jsonl

OpenMP threads that have nothing to do spin for a while before they sleep. Where another process
holds a core, the spinning threads take turns with the ones they wait for. Each policy is a worker
process of its own, since OpenMP reads its settings when torch is loaded; the workers take turns,
one step at a time, so that a change of the machine's mood meets all alike. The competitor is one
process that never sleeps. Medians of steps; beside the first policy, medians of the quotients of a
round; SmolLM2-135M, 16 prompts of 48 tokens, one direction;
and the reads of a step of configs/quickstart.yaml: 32 prompts, 16 directions, the last ten layers.
"""

import argparse
import contextlib
import copy
import functools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zolit.threads import SETTINGS

POLICIES: dict[str, dict[str, str]] = {
    "torch's default": {"GOMP_SPINCOUNT": "300000"},  # as where nothing is set
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "zolit": {},  # the default, and `zolit.threads.share_cores`, which `waiting` calls
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
    "GOMP_SPINCOUNT=30000": {"GOMP_SPINCOUNT": "30000"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}
SETTLE = 2.5
"""Seconds between two steps: the others' turns are over for whoever looks at the machine."""
CONDITIONS = ("idle", "busy")
CASES = ("two bf16 forwards", "QuZO int8", "scales of int4", "quickstart's step")


def worker(cases: list[str]) -> None:
    """Time one step of the case that a line of standard input names, for each line."""
    import torch
    from smollm2 import SOURCE
    from step import forwards, load, make_batch, recipe

    from zolit.objectives.option_scoring import OptionScoring
    from zolit.quiet import quiet_libraries
    from zolit.strategies import ConstantQueries, Int4, OneSided, ScalePerturber
    from zolit.training.zero_order import ZeroOrderModule

    quiet_libraries()
    batch = make_batch(16, 48)
    model = load("smollm2")
    calls = {}
    for case in cases:
        own = copy.deepcopy(model)
        if case == "two bf16 forwards":
            calls[case] = forwards(own, batch)
        elif case == "quickstart's step":
            module = ZeroOrderModule(
                SOURCE,
                Int4(64),
                ScalePerturber(5e-2),
                estimator=OneSided(),
                query_scheduler=ConstantQueries(16),
                objective=OptionScoring(shared=0.2),
                tune=["model.layers.2[0-9].*_proj.weight"],
            )
            module.adopt(own)
            module.network.eval()
            calls[case] = functools.partial(read, module, make_batch(32, 40), list(range(16)))
        else:
            calls[case] = recipe(case, own, batch, 1, {"compile": "blocks"}).step
    with torch.no_grad():
        for call in calls.values():
            call()
        print(f"ready, {torch.get_num_threads()} threads", flush=True)
        for line in sys.stdin:
            time.sleep(SETTLE)
            start = time.perf_counter()
            calls[line.strip()]()
            print(1e3 * (time.perf_counter() - start), flush=True)


def read(module: Any, batch: object, keys: list[int]) -> None:
    """The estimate of a step of several directions on one batch."""
    with module.reading.same_batch():
        module.estimate(batch, keys)


def start(policy: str, cases: list[str]) -> "subprocess.Popen[str]":
    """A worker under a policy."""
    environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    command = [sys.executable, __file__, "--worker", *cases]
    return subprocess.Popen(  # noqa: S603
        command,
        env={**environment, **POLICIES[policy]},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def competitor(busy: bool) -> Iterator[None]:
    """One process that uses a whole core, or none."""
    if not busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def ask(process: "subprocess.Popen[str]", line: str) -> float:
    """Milliseconds of one step of a worker."""
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the worker has no pipes")
    process.stdin.write(line + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", type=Path, help="file for one JSON line a figure")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.worker)
        return
    workers = {policy: start(policy, arguments.cases) for policy in arguments.policies}
    for policy, process in workers.items():
        print(f"{policy}: {process.stdout.readline().strip()}", file=sys.stderr)  # type: ignore[union-attr]
    first = arguments.policies[0]
    found: dict[tuple[str, str], dict[str, float]] = {}
    for condition in arguments.conditions:
        with competitor(condition == "busy"):
            for case in arguments.cases:
                times: dict[str, list[float]] = {policy: [] for policy in workers}
                for _ in range(arguments.repeats):
                    for policy, process in workers.items():
                        times[policy].append(ask(process, case))
                for policy, measured in times.items():
                    beside = [one / base for one, base in zip(measured, times[first], strict=True)]
                    figures = found.setdefault((case, policy), {})
                    figures[condition] = statistics.median(measured)
                    figures[condition + " beside"] = statistics.median(beside)
                    told = ", ".join(f"{one:.0f}" for one in measured)
                    print(f"{case}, {condition}, {policy}: {told} ms", file=sys.stderr, flush=True)
    for process in workers.values():
        process.kill()
        process.wait()
    print(f"| step | policy | idle, ms | / {first} | busy, ms | / {first} | busy / idle |")
    print("|---|---|---|---|---|---|---|")
    lines = []
    for (case, policy), figures in found.items():
        cells = [
            f"{figures[name]:.{digits}f}" if name in figures else ""
            for name, digits in (("idle", 0), ("idle beside", 2), ("busy", 0), ("busy beside", 2))
        ]
        both = f"{figures['busy'] / figures['idle']:.2f}" if len(figures) == 4 else ""
        print(f"| {case} | {policy} | {' | '.join(cells)} | {both} |")
        lines.append({"case": case, "policy": policy, **figures})
    if arguments.json:
        arguments.json.write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
