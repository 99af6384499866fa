"""Run dieharder on the noise streams: along the counter, along the key, and as training reads them.

    apt-get install dieharder
    python benchmarks/noise_battery.py [--tests 0 2 15 ...] [--streams counter key ...]

Prints a line for each result that is not PASSED and a table of counts. The exit code is 1 if
any test FAILED. Sound streams are WEAK (p below 0.005 or above 0.995) in one result of a hundred.
"""

import argparse
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator

import waiting  # noqa: F401
import numpy as np
import torch

from zolit.noise import ANGLE, RADIUS, fold, hash_words, split_key

BLOCK = 1 << 15
WEIGHT_WORDS = 18432
"""Words of a 576 x 1024 weight's signs."""

# Number and -n argument of each dieharder test: Marsaglia's, NIST STS's, and Brown's and Bauer's.
TESTS = [(n, None) for n in (0, 1, 2, 3, 4, 8, 9, 10, 11, 12, 13, 15, 16, 100, 101, 102)]
TESTS += [(200, 2), (200, 4), (200, 8), (201, 2), (202, 5), (203, 8)]
TESTS += [(n, None) for n in (204, 205, 206, 207, 208, 209)]


def words(key: int, counters: np.ndarray) -> np.ndarray:
    """Noise words of one key, uint32."""
    high, low = (torch.tensor(k, dtype=torch.int32) for k in split_key(key))
    counter = torch.from_numpy(counters.astype(np.uint32).view(np.int32))
    return hash_words(counter, high, low).numpy().view(np.uint32)


def along_counter() -> Iterator[np.ndarray]:
    """Counters 0, 1, 2, ... of one key: the signs of one huge weight."""
    start, key = 0, fold(2026, 0)
    while True:
        yield words(key, np.arange(start, start + BLOCK, dtype=np.uint64))
        start += BLOCK
        if start >> 32:
            start, key = 0, fold(key, 1)


def fold_array(keys: np.ndarray, data: np.ndarray | int) -> np.ndarray:
    """`zolit.noise.fold` for arrays of uint64 keys or data."""
    golden = np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (np.asarray(data, dtype=np.uint64) * golden)) + golden
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def along_key() -> Iterator[np.ndarray]:
    """One counter under the keys of steps 0, 1, 2, ...: one coordinate over a run."""
    counter = torch.tensor(1234567, dtype=torch.int32).expand(BLOCK)
    start, run = 0, np.array([fold(2026, 0)], dtype=np.uint64)
    while True:
        keys = fold_array(run, np.arange(start, start + BLOCK, dtype=np.uint64))
        for data in (0, 7, RADIUS):
            keys = fold_array(keys, data)
        halves = torch.from_numpy(keys.view(np.int32).reshape(-1, 2))
        yield hash_words(counter, halves[:, 1], halves[:, 0]).numpy().view(np.uint32)
        start += BLOCK


def rademacher() -> Iterator[np.ndarray]:
    """Sign words in the order of training: weight after weight, step after step."""
    counters, step = np.arange(WEIGHT_WORDS), 0
    while True:
        key = fold(7, 0, step, 0)
        yield np.concatenate([words(fold(key, site, RADIUS), counters) for site in range(32)])
        step += 1


def interleaved() -> Iterator[np.ndarray]:
    """A word of each of 16 queries in turn, as a sum over queries meets them."""
    step = 0
    while True:
        keys = [fold(fold(11, 0, step, query), 0, RADIUS) for query in range(16)]
        yield np.stack([words(key, np.arange(BLOCK // 4)) for key in keys], axis=1).ravel()
        step += 1


def radius_angle() -> Iterator[np.ndarray]:
    """The two words of each Gaussian coordinate in turn."""
    step = 0
    while True:
        key = fold(fold(13, 0, step, 0), 3)
        pair = [words(fold(key, stream), np.arange(BLOCK)) for stream in (RADIUS, ANGLE)]
        yield np.stack(pair, axis=1).ravel()
        step += 1


STREAMS: dict[str, Callable[[], Iterator[np.ndarray]]] = {
    "counter": along_counter,
    "key": along_key,
    "rademacher": rademacher,
    "interleaved": interleaved,
    "radius_angle": radius_angle,
}


def run_test(stream: str, test: int, ntuple: int | None) -> Counter[str]:
    """Feed a fresh stream to one dieharder test; counts of its assessments."""
    command = ["dieharder", "-g", "200", "-d", str(test)]
    if ntuple is not None:
        command += ["-n", str(ntuple)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603
    assert process.stdin is not None  # noqa: S101
    assert process.stdout is not None  # noqa: S101
    try:
        for block in STREAMS[stream]():
            process.stdin.write(block.tobytes())
    except BrokenPipeError:
        pass
    output = process.stdout.read().decode()
    process.wait()
    found = re.findall(r"^ *(\w+)\|.*\|([\d.]+)\| *(PASSED|WEAK|FAILED)", output, re.MULTILINE)
    if not found:
        raise SystemExit(f"dieharder gave no result for {' '.join(command)}:\n{output}")
    for name, p, assessment in found:
        if assessment != "PASSED":
            print(f"{stream}: {name} p={p} {assessment}", flush=True)
    return Counter(assessment for _, _, assessment in found)


def main() -> int:
    """Run the battery and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=list(STREAMS))
    parser.add_argument("--tests", nargs="+", type=int, help="dieharder test numbers")
    options = parser.parse_args()
    chosen = [t for t in TESTS if options.tests is None or t[0] in options.tests]
    totals = {}
    for stream in options.streams:
        totals[stream] = sum((run_test(stream, *test) for test in chosen), Counter())
    print("| stream | passed | weak | failed |\n|---|---|---|---|")
    for stream, total in totals.items():
        print(f"| {stream} | {total['PASSED']} | {total['WEAK']} | {total['FAILED']} |")
    return int(any(total["FAILED"] for total in totals.values()))


if __name__ == "__main__":
    sys.exit(main())
