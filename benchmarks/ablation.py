"""Which entries of an int4 model to move: accuracy of SensZOQ over masks, fractions and tasks.

    zolit saliency --config configs/quickstart.yaml --to c4.safetensors \\
      --saliency.text data/c4/c4_sample_train.txt --saliency.samples 32 --saliency.keep 0.1
    OMP_NUM_THREADS=1 python benchmarks/ablation.py run --scores sensitive=c4.safetensors
    python benchmarks/ablation.py table --plot docs/ablation.png

The ablation of SensZOQ (arXiv 2406.02913): int4 in groups of 64, the chosen entries of the last ten
layers as floats, `OneSided` with eight directions for each 16 rows, so that all runs make as many
forward passes. The weights after the last step are measured; nothing is chosen by validation. A
line of ``--results`` is a rate or a run, and what is there is not made again. Runs of all masks and
fractions of a seed come before those of the next seed.

eps and lr of each mask, fraction and task are found at the start weights on seed 7
(`benchmarks/rates.py`); lr is multiplied by the directions of a step and by ``--factor``, one for
all, and falls to a tenth over the run. What another factor does is seen by runs of seed 7.

Transfer is the same with other tasks, and masks from scores of a task's own rows
(``zolit saliency`` without a text):

    python benchmarks/ablation.py run --tasks sst2 trec rotten_tomatoes --fractions 1e-3 \\
      --masks c4 own --scores c4=c4.safetensors own={task}.safetensors
"""

import argparse
import functools
import gc
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from itertools import islice, product
from pathlib import Path
from typing import Any

import waiting  # noqa: F401
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rates import DIRECTIONS, SEED, find_rates
from result_lines import Results
from smollm2 import REVIEWS, SOURCE

import zolit
from zolit.quiet import quiet_libraries

BATCH, GROUP, QUERIES, TEST = 16, 64, 8, 500
TUNE = ["model.layers.2[0-9].*_proj.weight"]
"""The last ten layers: those before them run once a step, for all of its directions."""
MASKS = ("sensitive", "random", "largest", "smallest", "grasp")
FRACTIONS = (1e-1, 1e-2, 1e-3, 1e-4)

Scores = dict[str, str]
"""File of scores for each mask that has one; ``{task}`` stands for the task."""


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        task: a key of `rows_of`.
        mask: one of `MASKS`, or any name that has a file of scores.
        fraction: of the entries of each matrix that move.
        seed: of rows, batches, directions, and of the random mask.
        steps: each is nine forward passes.
        factor: of the rate.
    """

    task: str
    mask: str
    fraction: float
    seed: int
    steps: int
    factor: float


def rows_of(task: str, data: Path) -> dict[str, Any]:
    """Arguments of `PromptDataModule` for a task."""
    sst2 = {
        "rows": zolit.FileRows(str(data / "sst2/stsa.binary.train"), format="lines"),
        "test_rows": zolit.FileRows(str(data / "sst2/stsa.binary.dev"), format="lines"),
    }
    trec = zolit.FileRows(str(data / "trec/TREC.train"), format="lines", encoding="latin-1")
    return {
        "sst2": {"task": "sst2_review", "train_size": 4000, "test_size": TEST, **sst2},
        "trec": {"task": "trec", "train_size": 4000, "test_size": TEST, "rows": trec},
        "rotten_tomatoes": {
            "task": "rotten_tomatoes",
            "train_size": 4000,
            "test_size": TEST,
            "rows": REVIEWS,
        },
    }[task]


def mask_of(cell: Cell, scores: Scores) -> zolit.Mask:
    """The mask of a cell."""
    if cell.mask in scores:
        return zolit.Sensitive(scores[cell.mask].format(task=cell.task), cell.fraction)
    made: dict[str, Callable[[], zolit.Mask]] = {
        "random": lambda: zolit.RandomMask(cell.fraction, cell.seed),
        "largest": lambda: zolit.Magnitude(cell.fraction, "largest"),
        "smallest": lambda: zolit.Magnitude(cell.fraction, "smallest"),
    }
    if cell.mask not in made:
        known = ", ".join([*made, *scores])
        raise SystemExit(f"mask {cell.mask}: give --scores {cell.mask}=FILE, or one of {known}")
    return made[cell.mask]()


def module_of(cell: Cell, scores: Scores, rates: dict[str, Any]) -> zolit.ZeroOrderModule:
    """The module of a cell; its lr is asked for when fitting begins."""
    decay = functools.partial(
        torch.optim.lr_scheduler.LinearLR, end_factor=0.1, total_iters=cell.steps, start_factor=1.0
    )
    return zolit.ZeroOrderModule(
        SOURCE,
        zolit.Int4(group_size=GROUP),
        zolit.SparsePerturber(rates.get("eps", 1e-3)),
        estimator=zolit.OneSided(),
        mask=mask_of(cell, scores),
        query_scheduler=zolit.ConstantQueries(QUERIES),
        optimizer=lambda params: zolit.ZOSGD(params, lr=cell.factor * QUERIES * rates["lr"]),
        lr_scheduler=decay,
        tune=TUNE,
        seed=cell.seed,
    )


def data_of(cell: Cell, data: Path, seed: int) -> zolit.PromptDataModule:
    """Rows of a cell's task, drawn with a seed."""
    sizes = {"validation_size": 0, "batch_size": BATCH, "seed": seed}
    return zolit.PromptDataModule(source=SOURCE, **rows_of(cell.task, data), **sizes)


def look(cell: Cell, module: zolit.ZeroOrderModule, data: Path) -> dict[str, Any]:
    """eps and lr at the start weights of a cell's module, which is loaded for this."""
    rows = data_of(cell, data, SEED)
    rows.setup("fit")
    module.configure_model()
    found = find_rates(module, list(islice(rows.train_dataloader(), DIRECTIONS)))
    moving = sum(w.site.coordinates.shape(w.store)[1] for w in module.weights)
    return {**asdict(found), "moving": moving}


def fit(cell: Cell, scores: Scores, data: Path, results: Results, zero_shot: bool) -> None:
    """Make the run of a cell unless it is in the results; test its start as well if asked."""
    what = {"kind": "run", **asdict(cell)}
    if results.find(**what) is not None:
        return
    started = time.process_time()
    where = {"kind": "rate", "task": cell.task, "mask": cell.mask, "fraction": cell.fraction}
    rates = results.find(**where) or {}
    module = module_of(cell, scores, rates)
    if not rates:
        rates |= results.add({**where, **look(cell, module, data)})
        module.perturber = zolit.SparsePerturber(rates["eps"])  # loading takes longer than looking
    with tempfile.TemporaryDirectory() as folder:
        summary = zolit.fit(
            module,
            data_of(cell, data, cell.seed),
            Path(folder) / "run",
            options=zolit.RunOptions(zero_shot=zero_shot),
            max_steps=cell.steps,
            limit_val_batches=0,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
    seconds = round(time.process_time() - started, 1)
    figures = {name: summary["final"][f"test_{name}"] for name in ("loss", "accuracy")}
    start = summary["zero_shot"] or {}
    figures |= {f"start_{name.removeprefix('test_')}": value for name, value in start.items()}
    keep = ("text_loss", "step_ms_median", "skipped_queries", "findings")
    kept = {name: summary[name] for name in keep}
    lr = cell.factor * QUERIES * rates["lr"]
    results.add({**what, "eps": rates["eps"], "lr": lr, **figures, **kept, "cpu_seconds": seconds})


def table(results: Results, chosen: argparse.Namespace) -> Iterable[str]:
    """Markdown: a line for each task and mask, a column for each fraction."""
    seeds, fractions = chosen.seeds, chosen.fractions
    yield f"| task | mask | {' | '.join(f'{one:g}' for one in fractions)} |"
    yield "|---|---|" + "---|" * len(fractions)
    for task, mask in product(chosen.tasks, chosen.masks):
        cells = []
        for fraction in fractions:
            found = runs(results, chosen, task, mask, fraction, seeds)
            accuracies = " ".join(f"{one['accuracy']:.3f}" for one in found)
            losses = " ".join(f"{one['loss']:.3f}" for one in found)
            cells.append(f"{accuracies} ({losses})" if found else "not run")
        yield f"| {task} | {mask} | {' | '.join(cells)} |"
    yield ""
    yield "| task | mask | fraction | entries that move | eps | lr | slope |"
    yield "|---|---|---|---|---|---|---|"
    for one in results.lines:
        if one["kind"] == "rate" and one["task"] in chosen.tasks and one["mask"] in chosen.masks:
            numbers = (one[name] for name in ("eps", "lr", "slope"))
            figures = " | ".join(f"{number:.2g}" for number in numbers)
            where = f"{one['task']} | {one['mask']} | {one['fraction']:g} | {one['moving']:,}"
            yield f"| {where} | {figures} |"


def runs(
    results: Results,
    chosen: argparse.Namespace,
    task: str,
    mask: str,
    fraction: float,
    seeds: list[int],
) -> list[dict[str, Any]]:
    """The runs of some seeds that are done."""
    each = (
        results.find(kind="run", **asdict(Cell(task, mask, fraction, seed, *how)))
        for seed, how in product(seeds, [(chosen.steps, chosen.factor)])
    )
    return [one for one in each if one is not None]


def plot(results: Results, chosen: argparse.Namespace, file: Path) -> None:
    """Loss and accuracy over the fraction: a line for each mask, its mean, and each seed."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    panels = figure.subplots(1, 2)
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        for number, mask in enumerate(chosen.masks):
            means = []
            for fraction in chosen.fractions:
                found = runs(results, chosen, chosen.tasks[0], mask, fraction, chosen.seeds)
                values = [one[name] for one in found]
                axes.plot([fraction] * len(values), values, ".", color=f"C{number}")
                if values:
                    means.append((fraction, statistics.mean(values)))
            if means:
                axes.plot(*zip(*means, strict=True), color=f"C{number}", label=mask)
        axes.set_xscale("log")
        axes.set_xlabel("fraction of entries that move")
        axes.set_ylabel(f"test {name}, {chosen.tasks[0]}")
    panels[0].legend()
    FigureCanvasAgg(figure).print_png(str(file))


def main() -> None:
    """Run what is missing, or print what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--results", type=Path, default=Path("runs/ablation.jsonl"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--scores", nargs="*", default=[], metavar="MASK=FILE")
    parser.add_argument("--tasks", nargs="+", default=["trec"])
    parser.add_argument("--masks", nargs="+", default=list(MASKS))
    parser.add_argument("--fractions", nargs="+", type=float, default=list(FRACTIONS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--factor", type=float, default=1.0, help="of the rate that was found")
    parser.add_argument("--zero-shot", action="store_true", help="test the start of each run too")
    parser.add_argument("--plot", type=Path)
    chosen = parser.parse_args()
    quiet_libraries()
    results = Results(chosen.results)
    if chosen.what == "table":
        print("\n".join(table(results, chosen)))
        if chosen.plot:
            plot(results, chosen, chosen.plot)
        return
    chosen.results.parent.mkdir(parents=True, exist_ok=True)
    scores: Scores = dict(one.split("=", 1) for one in chosen.scores)
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    for seed, *rest in product(chosen.seeds, chosen.tasks, chosen.fractions, chosen.masks):
        task, fraction, mask = rest
        cell = Cell(task, mask, fraction, seed, chosen.steps, chosen.factor)
        fit(cell, scores, chosen.data, results, chosen.zero_shot)
        gc.collect()


if __name__ == "__main__":
    main()
