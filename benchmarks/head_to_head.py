"""MeZO, QuZO, QZO and SensZOQ from one int4 start: at equal wall-clock, at equal forwards, memory.

    OMP_NUM_THREADS=1 python benchmarks/head_to_head.py --floats runs/int4_floats
    OMP_NUM_THREADS=1 python benchmarks/seeds.py configs/head_to_head/int4_*_trec.yaml \\
      --folder runs/head_to_head
    python benchmarks/head_to_head.py --task trec --folder runs/head_to_head --plot docs/trec.png

The recipes ``configs/head_to_head/int4_*`` of a task differ in what moves alone: rows, batches,
layers, estimator, directions and minutes are the same, so that steps are forward passes. MeZO moves
floats, which an int4 model has none of; ``--floats`` writes the int4 weights, decoded to bfloat16,
as a model for it to start from. All four start from the same function of their input.

Equal wall-clock: every run is given the same minutes, validations included, and the best checkpoint
by validation loss is tested. Equal forwards: the validation after the last step that all runs of a
task made.
"""

import argparse
import csv
import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import waiting  # noqa: F401
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from smollm2 import REVIEWS, SOURCE

import zolit
from zolit.quiet import quiet_libraries

METHODS = {"mezo": "MeZO", "quzo": "QuZO", "qzo": "QZO", "senszoq": "SensZOQ"}
COLUMNS = (
    "method",
    "zero-shot",
    "equal minutes: test accuracy (loss), each seed",
    "steps",
    "equal forwards: validation accuracy (loss), each seed",
    "s a step",
    "peak MB",
)
READS = 17
"""Forward passes of a step over its rows: 16 directions, and the weights as they are."""


@dataclass(frozen=True)
class Validation:
    """Figures at one moment of a run.

    Attributes:
        step: steps made.
        seconds: time that the steps took, without validations.
        loss: on the validation rows.
        accuracy: on the validation rows.
    """

    step: int
    seconds: float
    loss: float
    accuracy: float


def validations(run: Path) -> list[Validation]:
    """All of a run, from its metrics.csv."""
    found, seconds = [], 0.0
    with (run / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            seconds += float(row.get("step_ms") or 0) / 1e3
            if row.get("val_loss"):
                figures = float(row["val_loss"]), float(row["val_accuracy"])
                found.append(Validation(int(row["step"]) + 1, seconds, *figures))
    return found


def runs_of(folder: Path, method: str, task: str) -> list[Path]:
    """Finished runs of a recipe, a seed each."""
    found = sorted(folder.glob(f"int4_{method}_{task}-seed*"))
    return [one for one in found if (one / "summary.json").is_file()]


def table(folder: Path, task: str) -> list[str]:
    """Lines of Markdown."""
    runs = {method: runs_of(folder, method, task) for method in METHODS}
    every = [validations(one) for each in runs.values() for one in each]
    steps = [{at.step for at in each} for each in every]
    common = max(set.intersection(*steps)) if steps else 0
    lines = [
        f"Equal forwards: after step {common}, {READS * common} passes over a batch.",
        "",
        "| " + " | ".join(COLUMNS) + " |",
        "|" + "---|" * len(COLUMNS),
    ]
    for method, each in runs.items():
        if not each:
            lines.append(f"| {METHODS[method]} | " + "not run |" + " |" * (len(COLUMNS) - 2))
            continue
        summaries = [json.loads((one / "summary.json").read_text()) for one in each]
        starts = {_figures(one["zero_shot"], "test") for one in summaries}
        at = [next(v for v in validations(one) if v.step == common) for one in each]
        cells = (
            METHODS[method],
            " ".join(sorted(starts)),
            ", ".join(_figures(one["final"], "test") for one in summaries),
            " ".join(str(one["steps"]) for one in summaries),
            ", ".join(f"{v.accuracy:.3f} ({v.loss:.3f})" for v in at),
            f"{statistics.median(one['step_ms_median'] for one in summaries) / 1e3:.2f}",
            f"{max(one['peak_memory_mb'] for one in summaries):.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _figures(metrics: dict[str, float], stage: str) -> str:
    return f"{metrics[f'{stage}_accuracy']:.3f} ({metrics[f'{stage}_loss']:.3f})"


def plot(folder: Path, task: str, file: Path) -> None:
    """Validation loss over seconds of steps and over forward passes: a colour for each method."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for number, (method, name) in enumerate(METHODS.items()):
        for seed, run in enumerate(runs_of(folder, method, task)):
            points = validations(run)
            losses = [one.loss for one in points]
            how = {"color": f"C{number}", "linewidth": 1, "label": name if seed == 0 else None}
            left.plot([one.seconds for one in points], losses, ".-", **how)
            right.plot([READS * one.step for one in points], losses, ".-", **how)
    left.set_xlabel("seconds of steps")
    right.set_xlabel("forward passes over a batch")
    left.set_ylabel(f"validation loss, {task}")
    left.legend()
    FigureCanvasAgg(figure).print_png(str(file))


def write_floats(folder: Path) -> None:
    """The int4 start of the recipes, decoded to bfloat16, as a model of transformers.

    A run of one step that is too short for any number to change, so that its export is the start.
    """
    module = zolit.ZeroOrderModule(
        SOURCE,
        zolit.Int4(group_size=64),
        zolit.ScalePerturber(),
        optimizer=lambda params: zolit.ZOSGD(params, lr=1e-30),
    )
    sizes = {"train_size": 16, "validation_size": 0, "test_size": 0}
    data = zolit.PromptDataModule("rotten_tomatoes", REVIEWS, SOURCE, **sizes)
    with tempfile.TemporaryDirectory() as scratch:
        run = Path(scratch) / "run"
        zolit.fit(module, data, run, max_steps=1, limit_val_batches=0)
        zolit.export_model(run, folder, module=module)


def main() -> None:
    """Write the start for MeZO, or print the table and draw the picture of a task."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--floats", type=Path, help="new folder for the start of MeZO")
    parser.add_argument("--task", choices=["sst2", "trec"], default="trec")
    parser.add_argument("--folder", type=Path, default=Path("runs/head_to_head"))
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    quiet_libraries()
    if arguments.floats:
        write_floats(arguments.floats)
        return
    print("\n".join(table(arguments.folder, arguments.task)))
    if arguments.plot:
        plot(arguments.folder, arguments.task, arguments.plot)


if __name__ == "__main__":
    main()
