"""What the journal costs: bytes and milliseconds a step, and the hashes at start and end.

    python benchmarks/journal.py --folder runs --step-ms 478

Records of a real run's shape are written to the folder's disk, each waited for. The share is of a
step of so many milliseconds (`ms per step` of a run's summary).
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import waiting  # noqa: F401
import torch

from zolit.digests import tensor_digests
from zolit.runs.journal import Header, JournalWriter, Position, Step


def step(number: int, queries: int) -> Step:
    keys = tuple(range(number, number + queries))
    place = Position(number // 250, number % 250 + 1, number + 1)
    return Step(number, (1e-2,), keys, (0.5,) * queries, number, place)


def measure(folder: Path, records: int, queries: int, every: int) -> tuple[float, float, float]:
    """Mean and 99th percentile of milliseconds a record, bytes a record."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        writer = JournalWriter(Path(scratch) / "journal.bin", every)
        writer.begin(Header("", {}, "", {}, {}, {}))
        start = writer.path.stat().st_size
        times = []
        for number in range(records):
            record = step(number, queries)
            began = time.perf_counter()
            writer.append(record)
            times.append(1e3 * (time.perf_counter() - began))
        size = (writer.path.stat().st_size - start) / records
        writer.close()
    return statistics.mean(times), statistics.quantiles(times, n=100)[98], size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--records", type=int, default=500)
    parser.add_argument("--step-ms", type=float, required=True)
    parser.add_argument("--megabytes", type=int, default=106, help="of tuned weights")
    given = parser.parse_args()
    print("| queries | waits for the disk | ms a step | 99 % | share of a step | bytes a query |")
    print("|---|---|---|---|---|---|")
    for queries, every in ((1, 1), (16, 1), (1, 10)):
        mean, most, size = measure(given.folder, given.records, queries, every)
        share = f"{100 * mean / given.step_ms:.2f} %"
        often = "each step" if every == 1 else f"every {every} steps"
        print(f"| {queries} | {often} | {mean:.3f} | {most:.2f} | {share} | {size / queries:.0f} |")
    tensors = {str(n): torch.zeros(1 << 20, dtype=torch.int8) for n in range(given.megabytes)}
    began = time.perf_counter()
    tensor_digests(tensors)
    print(f"\nhash of {given.megabytes} MiB of weights: {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
