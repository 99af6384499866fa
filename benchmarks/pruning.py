"""Perplexity on WikiText-2 of SmolLM2-135M, pruned by each method, at each pattern.

    python benchmarks/pruning.py run --calibration c4_sample_train.txt --text valid_detok.jsonl
    python benchmarks/pruning.py table

One run after another, each a line of JSON in --results; runs that are there already are not made
again, so that the command can be stopped and given again. The dense model is measured with the
first run of each text.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import waiting  # noqa: F401
from result_lines import Results
from smollm2 import SOURCE

import zolit
from zolit.quiet import quiet_libraries

METHODS: dict[str, Callable[[], dict[str, Any]]] = {
    "magnitude": lambda: {"pruner": zolit.MagnitudePruner()},
    "wanda": lambda: {"pruner": zolit.Wanda()},
    "rgs": lambda: {"pruner": zolit.RegionalGradients()},
    "rgs, all tokens": lambda: {"pruner": zolit.RegionalGradients(norm="all_tokens")},
    "ro": lambda: {"pruner": zolit.Wanda(), "reconstruction": zolit.RegionalOptimization()},
    "wanda++": lambda: {
        "pruner": zolit.RegionalGradients(),
        "reconstruction": zolit.RegionalOptimization(),
    },
    "sparsegpt": lambda: {"pruner": zolit.SparseGPT()},
    "alps": lambda: {"pruner": zolit.ALPS()},
    "wanda, block": lambda: {
        "pruner": zolit.Wanda(),
        "reconstruction": zolit.BlockReconstruction(),
    },
    "alps, block": lambda: {
        "pruner": zolit.ALPS(),
        "reconstruction": zolit.BlockReconstruction(),
    },
    "alps, halves": lambda: {
        "pruner": zolit.ALPS(),
        "reconstruction": zolit.BlockReconstruction(part="halves"),
    },
    "wanda, forward": lambda: {
        "pruner": zolit.Wanda(),
        "reconstruction": zolit.ForwardReconstruction(),
    },
    "alps, forward": lambda: {
        "pruner": zolit.ALPS(),
        "reconstruction": zolit.ForwardReconstruction(),
    },
}
"""Arguments of `PruningModule` by the name of a method."""

PATTERNS: dict[str, Callable[[], zolit.Pattern]] = {
    "0.5": lambda: zolit.Ratio(0.5),
    "2:4": lambda: zolit.NofM(2, 4),
    "4:8": lambda: zolit.NofM(4, 8),
}


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        method: a key of `METHODS`.
        pattern: a key of `PATTERNS`.
        windows: of calibration text.
        length: tokens of a window, of the calibration and of the measured text.
        tested: windows of the text that are measured.
        seed: draws the calibration windows.
    """

    method: str
    pattern: str
    windows: int
    length: int
    tested: int
    seed: int


def prune(cell: Cell, options: argparse.Namespace, results: Results) -> None:
    """Make the run of a cell unless it is in the results."""
    if results.find(**asdict(cell)) is not None:
        return
    dense = {"method": "dense", "length": cell.length, "tested": cell.tested}
    zero_shot = results.find(**dense) is None
    module = zolit.PruningModule(
        SOURCE,
        pattern=PATTERNS[cell.pattern](),
        calibration=zolit.CalibrationText(
            str(options.calibration), samples=cell.windows, length=cell.length, seed=cell.seed
        ),
        dtype="float32",
        activations=options.activations,
        **METHODS[cell.method](),
    )
    data = zolit.TextDataModule(
        source=SOURCE,
        test_text=str(options.text),
        length=cell.length,
        test_windows=cell.tested,
        eval_batch_size=options.batch,
    )
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        summary = zolit.prune(
            module,
            data,
            Path(folder) / "run",
            options=zolit.RunOptions(zero_shot=zero_shot),
            enable_progress_bar=False,
        )
    if zero_shot:
        results.add({**dense, "perplexity": summary["zero_shot"]["test_perplexity"]})
    results.add(
        {
            **asdict(cell),
            "perplexity": summary["final"]["test_perplexity"],
            "largest_output_error": max(one["output_error"] for one in summary["blocks"]),
            "zeros": summary["zeros"],
            "pruning_seconds": summary["seconds"],
            "cpu_seconds": round(time.process_time() - started, 1),
            "peak_memory_mb": summary["peak_memory_mb"],
        }
    )


def cells(options: argparse.Namespace) -> Iterable[Cell]:
    """The cells of the table, all methods of a seed before the next seed."""
    for seed, windows, pattern, method in product(
        options.seeds, options.windows, options.patterns, options.methods
    ):
        yield Cell(method, pattern, windows, options.length, options.tested, seed)


def table(options: argparse.Namespace, results: Results) -> Iterable[str]:
    """Markdown: a line for each method and number of windows, a column for each pattern."""
    dense = results.find(method="dense", length=options.length, tested=options.tested) or {}
    yield f"dense: {dense.get('perplexity', float('nan')):.3f}"
    yield ""
    yield f"| method | windows | {' | '.join(options.patterns)} | pruning, s |"
    yield "|---|---|" + "---|" * (len(options.patterns) + 1)
    for windows, method in product(options.windows, options.methods):
        columns, seconds = [], []
        for pattern in options.patterns:
            each = (
                results.find(
                    **asdict(Cell(method, pattern, windows, options.length, options.tested, seed))
                )
                for seed in options.seeds
            )
            found = [one for one in each if one is not None]
            values = [one["perplexity"] for one in found]
            seconds += [one["pruning_seconds"] for one in found]
            spread = f" ({' '.join(f'{one:.2f}' for one in values)})" if len(values) > 1 else ""
            columns.append(f"{statistics.mean(values):.2f}{spread}" if values else "not run")
        cost = f"{statistics.median(seconds):.0f}" if seconds else "-"
        yield f"| {method} | {windows} | {' | '.join(columns)} | {cost} |"


def main() -> None:
    """Run what is missing, or print what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--results", type=Path, default=Path("runs/pruning.jsonl"))
    parser.add_argument("--calibration", type=Path, help="text, a document a line")
    parser.add_argument("--text", type=Path, help="whose perplexity is measured")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--patterns", nargs="+", choices=PATTERNS, default=list(PATTERNS))
    parser.add_argument("--windows", nargs="+", type=int, default=[32, 128])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--tested", type=int, default=64, help="windows that are measured")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--activations", choices=["memory", "disk"], default="memory")
    options = parser.parse_args()
    results = Results(options.results)
    if options.what == "table":
        print("\n".join(table(options, results)))
        return
    if options.calibration is None or options.text is None:
        parser.error("run needs --calibration and --text")
    quiet_libraries()
    options.results.parent.mkdir(parents=True, exist_ok=True)
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    for cell in cells(options):
        prune(cell, options, results)
        gc.collect()


if __name__ == "__main__":
    main()
