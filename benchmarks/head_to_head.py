"""MeZO, QuZO, QZO and SensZOQ from one int4 model, at equal time and at equal forward passes.

    OMP_NUM_THREADS=1 python benchmarks/head_to_head.py run --seconds 60
    python benchmarks/head_to_head.py table --plot docs/head_to_head.png

The start is SmolLM2-135M-Instruct in int4, groups of 64, rounded to nearest. QuZO moves its codes,
QZO its scales, MeZO the same numbers as bfloat16 floats (they are exported once, to ``--start``),
SensZOQ the thousandth of highest score, which it keeps as floats, so that it alone starts from a
better model: its start is measured as well. All move the last ten layers by `OneSided` with eight
directions for 16 rows: nine forward passes a step.

A run ends with the step at which its thread has stepped for ``--seconds`` of processor time;
evaluating, and the first step, which compiles, do not count. 400 rows that nothing was chosen by
are measured at the start, after each ``--every`` steps and at the end. eps and lr are found by one
rule for all (`benchmarks/rates.py`, seed 7), and stay; codes are read a whole step of the grid to
either side. Each run is a process, so that its peak of memory is its own, and a line of
``--results``: what is there is not made again.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from itertools import islice, product
from pathlib import Path
from typing import Any

import waiting  # noqa: F401
import lightning as L
import torch
from ablation import BATCH, GROUP, QUERIES, TUNE, rows_of
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rates import DIRECTIONS, SEED, Rates, find_rates, rates_for, slope
from result_lines import Results
from smollm2 import SOURCE

import zolit
from zolit.export.plain import save_plain
from zolit.noise import fold
from zolit.quiet import quiet_libraries

METHODS = ("MeZO", "QuZO", "QZO", "SensZOQ")
TASKS = ("sst2", "trec")
ROWS = 400


@dataclass(frozen=True)
class Cell:
    """One run.

    Attributes:
        task: a key of `ablation.rows_of`.
        method: one of `METHODS`.
        seed: of rows, batches and directions.
        seconds: processor time of all steps.
        factor: of the rate.
    """

    task: str
    method: str
    seed: int
    seconds: float
    factor: float


def module_of(cell: Cell, start: Path, scores: str, rates: dict[str, Any]) -> zolit.ZeroOrderModule:
    """The module of a cell; its lr is asked for when fitting begins."""
    eps = rates.get("eps", 1e-3)
    int4 = functools.partial(zolit.Int4, group_size=GROUP)
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "MeZO": lambda: {
            "source": zolit.ModelSource(str(start)),
            "quantizer": zolit.NoQuantizer(),
            "perturber": zolit.DensePerturber(eps),
        },
        "QuZO": lambda: {
            "quantizer": int4(keep_error=True),
            "perturber": zolit.CodePerturber(1.0, distribution="rademacher"),
        },
        "QZO": lambda: {"quantizer": int4(), "perturber": zolit.ScalePerturber(eps)},
        "SensZOQ": lambda: {
            "quantizer": int4(),
            "perturber": zolit.SparsePerturber(eps),
            "mask": zolit.Sensitive(scores, 1e-3),
        },
    }
    # Codes and bfloat16 lose short steps without it.
    feedback = cell.method in ("MeZO", "QuZO")
    lr = cell.factor * QUERIES * rates.get("lr", 0.0)
    parts = {"source": SOURCE, **made[cell.method]()}
    return zolit.ZeroOrderModule(
        **parts,
        estimator=zolit.OneSided(),
        query_scheduler=zolit.ConstantQueries(QUERIES),
        optimizer=lambda params: zolit.ZOSGD(params, lr=lr, error_feedback=feedback),
        tune=TUNE,
        seed=cell.seed,
        compile="blocks",
    )


def data_of(cell: Cell, data: Path, seed: int) -> zolit.PromptDataModule:
    """Rows of a cell's task, drawn with a seed."""
    sizes = {"validation_size": 0, "test_size": ROWS, "batch_size": BATCH, "seed": seed}
    return zolit.PromptDataModule(source=SOURCE, **{**rows_of(cell.task, data), **sizes})


def write_start(folder: Path) -> None:
    """The floats of the int4 model as a folder of transformers."""
    module = zolit.ZeroOrderModule(
        SOURCE, zolit.Int4(group_size=GROUP), zolit.ScalePerturber(), tune=TUNE
    )
    module.configure_model()
    folder.mkdir(parents=True)
    SOURCE.load_tokenizer().save_pretrained(folder)
    save_plain(module.network, folder)


class Budget(L.Callback):
    """Steps for some seconds, and measures the held-out rows now and then.

    Args:
        seconds: processor time of all steps; the step that exceeds it is the last.
        every: number of steps between two measurements.
    """

    def __init__(self, seconds: float, every: int) -> None:
        self.seconds, self.every = seconds, every
        self.spent, self.steps, self.began = 0.0, 0, 0.0
        self.curve: list[dict[str, float]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self._measure(trainer, pl_module)

    def on_train_batch_start(self, *_: Any) -> None:
        self.began = time.process_time()

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        if self.steps:  # the first step compiles
            self.spent += time.process_time() - self.began
        self.steps += 1
        trainer.should_stop = self.spent >= self.seconds
        if trainer.should_stop or self.steps % self.every == 0:
            self._measure(trainer, pl_module)

    @torch.no_grad()
    def _measure(self, trainer: Any, module: Any) -> None:
        losses, right = [], []
        for batch in trainer.datamodule.test_dataloader():
            scores = module.objective.scores(module.network, batch)
            targets = module.objective.targets(batch)
            losses.append(torch.nn.functional.cross_entropy(scores, targets, reduction="none"))
            right.append((scores.argmax(1) == targets).float())
        loss, accuracy = float(torch.cat(losses).mean()), float(torch.cat(right).mean())
        passes = self.steps * (QUERIES + 1)
        point = {"steps": self.steps, "forwards": passes, "seconds": round(self.spent, 2)}
        self.curve.append({**point, "loss": loss, "accuracy": accuracy})


def rates_of(cell: Cell, chosen: argparse.Namespace, results: Results) -> dict[str, Any]:
    """eps and lr at the start weights on seed 7, from the results or found now."""
    where = {"kind": "rate", "task": cell.task, "method": cell.method}
    rates = results.find(**where)
    if rates is None:
        data = data_of(cell, chosen.data, SEED)
        data.setup("fit")
        module = module_of(cell, chosen.start, chosen.scores, {})
        module.configure_model()
        batches = list(islice(data.train_dataloader(), DIRECTIONS))
        if cell.method == "QuZO":  # at its own eps, which is a step of the grid
            found = rates_at_own_eps(module, batches)
        else:
            found = find_rates(module, batches)
        rates = results.add({**where, **asdict(found)})
    return rates


@torch.no_grad()
def rates_at_own_eps(module: zolit.ZeroOrderModule, batches: list[Any]) -> Rates:
    """The same rule where eps is given."""
    module.network.eval()
    eps = module.perturber.eps
    slopes = [slope(module, batch, fold(SEED, 0, 0, n), eps) for n, batch in enumerate(batches)]
    return replace(rates_for(torch.tensor(slopes)), eps=eps)


def fit(cell: Cell, chosen: argparse.Namespace, results: Results) -> None:
    """Make the run of a cell and write its line."""
    rates = rates_of(cell, chosen, results)
    module = module_of(cell, chosen.start, chosen.scores, rates)
    budget = Budget(cell.seconds, chosen.every)
    with tempfile.TemporaryDirectory() as folder:
        summary = zolit.fit(
            module,
            data_of(cell, chosen.data, cell.seed),
            Path(folder) / "run",
            options=zolit.RunOptions(zero_shot=False, test_after_fit=False),
            callbacks=(budget,),
            limit_val_batches=0,
            max_steps=10_000,
            enable_checkpointing=False,
            enable_progress_bar=False,
        )
    lr = cell.factor * QUERIES * rates["lr"]
    facts = {"eps": rates["eps"], "lr": lr, "peak_mb": summary["peak_memory_mb"]}
    results.add({"kind": "run", **asdict(cell), **facts, "curve": budget.curve})


def at(curve: list[dict[str, float]], steps: int) -> dict[str, float]:
    """The last point of a curve that is not behind some steps."""
    return [point for point in curve if point["steps"] <= steps][-1]


def spread(values: Iterable[float]) -> str:
    """Mean, and the standard deviation over seeds."""
    found = list(values)
    deviation = f" ± {statistics.stdev(found):.3f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.3f}{deviation}"


def table(results: Results, chosen: argparse.Namespace) -> Iterable[str]:
    """Markdown: accuracy and loss at equal forward passes and at equal time."""
    every = chosen.every
    for task in chosen.tasks:
        groups = {method: runs(results, chosen, task, method) for method in chosen.methods}
        groups = {method: found for method, found in groups.items() if found}
        if not groups:
            continue
        least = min(run["curve"][-1]["steps"] for found in groups.values() for run in found)
        least -= least % every
        yield f"{task}: accuracy (loss); equal forward passes: {least * (QUERIES + 1)}"
        yield ""
        heads = "method", "start", "equal passes", "their s", "equal time", "its passes", "peak MB"
        yield f"| {' | '.join(heads)} |"
        yield "|---" * len(heads) + "|"
        for method, found in groups.items():
            curves = [run["curve"] for run in found]
            cells = [method]
            for points in ([c[0] for c in curves], [at(c, least) for c in curves]):
                accuracy, loss = (spread(p[name] for p in points) for name in ("accuracy", "loss"))
                cells.append(f"{accuracy} ({loss})")
            cells.append(f"{statistics.mean(at(c, least)['seconds'] for c in curves):.0f}")
            last = [c[-1] for c in curves]
            cells.append(
                f"{spread(p['accuracy'] for p in last)} ({spread(p['loss'] for p in last)})"
            )
            passes = sorted(int(p["forwards"]) for p in last)
            cells.append(f"{passes[0]} to {passes[-1]}")
            cells.append(f"{max(run['peak_mb'] for run in found):.0f}")
            yield f"| {' | '.join(cells)} |"
        yield ""
    yield "| task | method | eps | lr | slope |"
    yield "|---|---|---|---|---|"
    for line in results.lines:
        if line["kind"] == "rate":
            figures = " | ".join(f"{line[name]:.2g}" for name in ("eps", "lr", "slope"))
            yield f"| {line['task']} | {line['method']} | {figures} |"


def runs(
    results: Results, chosen: argparse.Namespace, task: str, method: str
) -> list[dict[str, Any]]:
    """The runs of a task and a method that are done, a line for each seed."""
    cells = (Cell(task, method, seed, chosen.seconds, chosen.factor) for seed in chosen.seeds)
    found = (results.find(kind="run", **asdict(cell)) for cell in cells)
    return [run for run in found if run is not None]


def plot(results: Results, chosen: argparse.Namespace, file: Path) -> None:
    """Held-out loss over seconds and over forward passes, a row of panels for each task."""
    figure = Figure(figsize=(9, 3.2 * len(chosen.tasks)), layout="constrained")
    panels = figure.subplots(len(chosen.tasks), 2, squeeze=False)
    for row, task in zip(panels, chosen.tasks, strict=True):
        for axes, unit in zip(row, ("seconds", "forwards"), strict=True):
            for number, method in enumerate(chosen.methods):
                for index, run in enumerate(runs(results, chosen, task, method)):
                    xs, ys = ([point[name] for point in run["curve"]] for name in (unit, "loss"))
                    label = method if index == 0 else None
                    axes.plot(xs, ys, ".-", color=f"C{number}", label=label, alpha=0.8)
            axes.set_xlabel("seconds of one thread" if unit == "seconds" else "forward passes")
            axes.set_ylabel(f"held-out loss, {task}")
    panels[0, 0].legend()
    FigureCanvasAgg(figure).print_png(str(file))


def main() -> None:
    """Run what is missing, or print what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "one", "table"])
    parser.add_argument("--results", type=Path, default=Path("runs/head_to_head.jsonl"))
    parser.add_argument("--start", type=Path, default=Path("runs/int4_floats"))
    parser.add_argument("--scores", default="c4.safetensors", help="of zolit saliency")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--every", type=int, default=10)
    parser.add_argument("--factor", type=float, default=1.0, help="of the rate that was found")
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
    cells = [
        Cell(task, method, seed, chosen.seconds, chosen.factor)
        for seed, task, method in product(chosen.seeds, chosen.tasks, chosen.methods)
    ]
    if chosen.what == "one":
        fit(cells[0], chosen, results)
        return
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
    if not chosen.start.is_dir():
        write_start(chosen.start)
    for cell in cells:
        if results.find(kind="run", **asdict(cell)) is not None:
            continue
        one = [sys.executable, __file__, "one", *sys.argv[2:]]
        one += ["--tasks", cell.task, "--methods", cell.method, "--seeds", str(cell.seed)]
        subprocess.run(one, check=True)  # noqa: S603
        print(json.dumps(asdict(cell)), flush=True)


if __name__ == "__main__":
    main()
