"""What a saliency costs, beside one forward and backward of the whole model on the same windows.

    OMP_NUM_THREADS=2 python benchmarks/saliency.py
    python benchmarks/random_llama.py 1b /tmp/zolit-llama-1b
    OMP_NUM_THREADS=2 python benchmarks/saliency.py --folder /tmp/zolit-llama-1b --windows 4
    python benchmarks/saliency.py --folder /tmp/zolit-llama-1b --windows 2 --memory

Time: SmolLM2-135M, or a checkpoint of random weights, on windows of random tokens. ``plain`` runs
the transformers model forward and backward on each window, with gradients of the weights that a
saliency scores and of no others; ``saliency`` is what `zolit saliency` does once the model is
loaded, up to the written file. Both in turn, in one process; medians. ``seconds`` are of the clock,
``busy`` those of the processor, which compare on a busy machine too. ``forward`` and ``back`` are
the two sweeps (the loss counts as forward), ``rest`` what comes before and after. Goal: a ratio of
2.0 at most.

Memory: the peak of a process that loads the model and scores it, as benchmarks/memory.py measures
it. Goal: 1.3 times the model in bfloat16, and one block's weights and gradients in float32.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import waiting  # noqa: F401
import torch
from memory import spawn
from rich.console import Console
from rich.table import Table
from smollm2 import SOURCE
from torch import nn
from torch.nn import functional as F

from zolit.allocator import returning_memory
from zolit.calibration.options import SaliencyOptions
from zolit.calibration.saliency import compute_saliency
from zolit.calibration.scored import scored_weights
from zolit.calibration.text import Window
from zolit.models.anatomy import named_blocks
from zolit.models.loading.load import load_model
from zolit.models.loading.open import meta_model
from zolit.models.source import ModelSource
from zolit.runs.saliency import gradient_dtype, score
from zolit.strategies import DensePerturber, NoQuantizer
from zolit.training.dtype import DTYPES
from zolit.training.zero_order import ZeroOrderModule

Medians = dict[str, dict[str, float]]
"""Seconds of parts by name, for each way."""

Way = Callable[[nn.Module, list[Window]], dict[str, float]]

KEEP = 0.01
SHARE = 1.3
"""Of the model in bfloat16, which the whole process may take beside one block."""


def random_windows(source: ModelSource, count: int, length: int) -> list[Window]:
    """Windows of random tokens."""
    vocabulary = source.load_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, vocabulary, (count, length), generator=generator)
    return [Window(one) for one in ids]


def plain(model: nn.Module, windows: list[Window]) -> dict[str, float]:
    """Forward and backward of the whole model on each window in turn; no parts of its time."""
    weights = [
        model.get_parameter(one.path) for each in scored_weights(model).values() for one in each
    ]
    for weight in weights:
        weight.requires_grad_(True)
    for window in windows:
        logits = model(input_ids=window.ids.unsqueeze(0), use_cache=False).logits
        F.cross_entropy(logits[0, :-1].float(), window.ids[1:]).backward()
        for weight in weights:
            weight.grad = None
    for weight in weights:
        weight.requires_grad_(False)
    return {}


def saliency(dtype: torch.dtype, model: nn.Module, windows: list[Window]) -> dict[str, float]:
    """Score the weights into a file that is thrown away; seconds of both sweeps.

    Args:
        dtype: that gradients are computed in.
        model: whose weights are scored.
        windows: of text.
    """
    marks: dict[int, float] = {}
    total = 0

    def report(done: int, passes: int) -> None:
        nonlocal total
        marks[done], total = time.perf_counter(), passes

    with tempfile.TemporaryDirectory() as folder, returning_memory():
        to = Path(folder) / "scores"
        compute_saliency(model, windows, "fisher", KEEP, to, report, dtype=dtype)
    half = marks[total // 2]
    return {"forward": half - marks[0], "back": marks[total] - half}


def timed(call: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Seconds of the clock and of the processor that a call takes, and those that it tells."""
    gc.collect()
    clock, busy = time.perf_counter(), time.process_time()
    parts = call()
    found = {"seconds": time.perf_counter() - clock, "busy": time.process_time() - busy, **parts}
    return found | ({"rest": found["seconds"] - sum(parts.values())} if parts else {})


def measure_time(
    module: ZeroOrderModule, windows: list[Window], options: SaliencyOptions, rounds: int
) -> Medians:
    """Medians of both ways, run in turn."""
    source, dtype = module.source, module.dtype_name
    gradients = gradient_dtype(module, options, Path("none"))
    with returning_memory():
        model = load_model(source, DTYPES[dtype])
    plain(model, windows[:1])  # the first call prepares the libraries
    ways: dict[str, Way] = {"plain": plain, "saliency": partial(saliency, DTYPES[gradients])}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in sorted(ways, reverse=turn % 2 == 1):
            found[name].append(timed(partial(ways[name], model, windows)))
            told = {key: round(seconds, 2) for key, seconds in found[name][-1].items()}
            how = f"{name}, gradients in {gradients}" if name == "saliency" else name
            print(f"{dtype}, round {turn + 1}, {how}: {json.dumps(told)}", flush=True)
    return {
        name: {key: statistics.median(one[key] for one in each) for key in each[0]}
        for name, each in found.items()
    }


def score_alone(module: ZeroOrderModule, windows: list[Window], options: SaliencyOptions) -> None:
    """What `zolit saliency` does after it has read the text."""
    with tempfile.TemporaryDirectory() as folder:
        score(module, windows, options, Path(folder) / "scores")


def most_memory(source: ModelSource) -> tuple[int, int]:
    """Bytes of the model in bfloat16, and those that a scoring process may take at its peak."""
    model = meta_model(source, source.load_config(), torch.bfloat16)
    size = 2 * sum(one.numel() for one in model.parameters())
    blocks = named_blocks(model).values()
    block = max(sum(one.numel() for one in block.parameters()) for block in blocks)
    return size, int(SHARE * size) + 2 * 4 * block


def measure_memory(source: ModelSource, arguments: list[str]) -> str:
    """Peak of a process of its own, beside the goal."""
    _, peak = spawn([sys.executable, __file__, "--one", *arguments])
    size, most = most_memory(source)
    return (
        f"peak {peak / 1e9:.3f} GB, goal {most / 1e9:.3f} GB, model in bfloat16 {size / 1e9:.3f} GB"
    )


def show(found: dict[str, Medians]) -> None:
    """Print a table of seconds, and how many times as long a saliency takes."""
    table = Table(box=None)
    for head in ("", "seconds", "busy", "forward", "back", "rest"):
        table.add_column(head, justify="right")
    for dtype, ways in found.items():
        for name, row in ways.items():
            table.add_row(f"{dtype}, {name}", *(f"{row[key]:.2f}" for key in row))
        ratios = [ways["saliency"][key] / ways["plain"][key] for key in ("seconds", "busy")]
        table.add_row(f"{dtype}, ratio", *(f"{one:.2f}" for one in ratios))
    Console(width=100).print(table)


def main() -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, help="a checkpoint instead of SmolLM2-135M")
    parser.add_argument("--dtype", choices=list(DTYPES), nargs="*", help="both; memory: bfloat16")
    parser.add_argument("--gradients", choices=list(DTYPES), help="--saliency.dtype")
    parser.add_argument("--windows", type=int, default=16)
    parser.add_argument("--length", type=int, default=512, help="tokens of a window")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true", help="the peak instead of the time")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="file for the medians")
    given = parser.parse_args()
    source = SOURCE if given.folder is None else ModelSource(str(given.folder))
    windows = random_windows(source, given.windows, given.length)
    options = SaliencyOptions(keep=KEEP, dtype=given.gradients)

    def module(dtype: str) -> ZeroOrderModule:
        return ZeroOrderModule(source, NoQuantizer(), DensePerturber(), dtype=dtype)

    if given.one:
        score_alone(module(given.dtype[0]), windows, options)
        return
    if given.memory:
        same = ["--windows", str(given.windows), "--length", str(given.length)]
        same += [] if given.folder is None else ["--folder", str(given.folder)]
        same += [] if given.gradients is None else ["--gradients", given.gradients]
        for dtype in given.dtype or ["bfloat16"]:
            print(f"{dtype}: {measure_memory(source, [*same, '--dtype', dtype])}", flush=True)
        return
    dtypes = given.dtype or list(DTYPES)
    found = {one: measure_time(module(one), windows, options, given.rounds) for one in dtypes}
    show(found)
    if given.json:
        given.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
