"""Tables and curves of docs/results.md, from finished runs.

python benchmarks/held_out.py RUN ...                 # once, writes RUN/held_out.json
python benchmarks/results.py RUN ... --plot FILE.png  # table on stdout, picture in FILE.png
"""

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLUMNS = (
    "run",
    "steps",
    "held-out loss, zero-shot",
    "fine-tuned",
    "difference [95 %]",
    "p",
    "accuracy, zero-shot",
    "fine-tuned",
    "peak MB",
)


def row(run: Path) -> list[str]:
    """Cells of one run, in the order of `COLUMNS`."""
    summary = json.loads((run / "summary.json").read_text())
    held: dict[str, Any] = json.loads((run / "held_out.json").read_text())
    low, high = held["interval"]
    return [
        run.name,
        str(held["step"]),
        f"{held['zero_shot_loss']:.4f}",
        f"{held['loss']:.4f}",
        f"{held['difference']:+.4f} [{low:+.4f}, {high:+.4f}]",
        f"{held['p_value']:.1e}",
        f"{held['zero_shot_accuracy']:.3f}",
        f"{held['accuracy']:.3f}",
        f"{summary['peak_memory_mb']:.0f}",
    ]


def validation_curve(run: Path, metric: str = "val_loss") -> list[tuple[int, float]]:
    """Step and a metric of validation from the run's metrics.csv."""
    with (run / "metrics.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r.get(metric)]
    return [(int(r["step"]) + 1, float(r[metric])) for r in rows]


def plot(runs: list[Path], path: Path) -> None:
    """Validation loss over steps, a line for each run."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for run in runs:
        steps, losses = zip(*validation_curve(run), strict=True)
        axes.plot(steps, losses, marker="o", markersize=3, label=run.name)
    axes.set_xlabel("step")
    axes.set_ylabel("validation loss")
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> None:
    """Print the table; draw the picture if asked."""
    parser = argparse.ArgumentParser()
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--plot", type=Path)
    arguments = parser.parse_args()
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    for run in arguments.runs:
        print("| " + " | ".join(row(run)) + " |")
    if arguments.plot:
        plot(arguments.runs, arguments.plot)


if __name__ == "__main__":
    main()
