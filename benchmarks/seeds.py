"""Accuracy of recipes over seeds: runs what is missing, then the table of ``zolit compare``.

    OMP_NUM_THREADS=1 python benchmarks/seeds.py configs/qzo/gguf_sst2.yaml --jobs 2 \\
      --folder runs/seeds --plot docs/sst2_gguf.png

A seed draws the rows, the order of the batches and the directions. Each run is a process of its own
in ``FOLDER/RECIPE-seedS``; one that is there and finished is not repeated, one that was stopped is
resumed. With ``--jobs 2`` two seeds run side by side, with a thread each if the environment says
so. A recipe that starts from the run of one given before it starts from that run of its own seed,
and its curve goes on from there.

    python benchmarks/seeds.py configs/qzo/gguf_sst2.yaml configs/qzo/gguf_sst2_then_norm.yaml
"""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import zolit
from zolit.runs.metrics_file import read_rows


def finished(folder: Path) -> bool:
    """Whether a run has ended by itself."""
    summary = folder / "summary.json"
    return summary.is_file() and json.loads(summary.read_text())["status"] == "finished"


def place(folder: Path, name: str, seed: int) -> Path:
    """Where the run of a recipe and a seed is."""
    return folder / f"{name}-seed{seed}"


def predecessor(config: Path) -> str | None:
    """Name of the run that a recipe starts from."""
    start = yaml.safe_load(config.read_text())["model"].get("start_from")
    return None if start is None else Path(start).parent.parent.name


def run(config: Path, seed: int, folder: Path, options: list[str]) -> None:
    """Fit a recipe; what it prints goes to ``FOLDER.log``."""
    if finished(folder):
        return
    before = predecessor(config)
    if before is not None:
        start = place(folder.parent, before, seed) / "checkpoints" / "best.ckpt"
        options = [*options, "--model.start_from", str(start)]
    command = [sys.executable, "-m", "zolit.cli", "fit"]
    if (folder / "journal.bin").is_file():
        command += ["--config", str(folder / "config.yaml"), "--resume", str(folder)]
    else:
        command += ["--config", str(config), *options]
        command += ["--model.seed", str(seed), "--data.init_args.seed", str(seed)]
        command += ["--run.run_dir", str(folder), "--trainer.enable_progress_bar", "false"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("a") as log:
        subprocess.run(command, check=True, stdout=log, stderr=log)  # noqa: S603


def chain(configs: list[Path], seed: int, folder: Path, options: list[str]) -> None:
    """Fit the recipes of one seed, one after another."""
    for config in configs:
        run(config, seed, place(folder, config.stem, seed), options)


def validations(run: Path) -> list[tuple[int, float]]:
    """Batch and accuracy of each validation."""
    rows = read_rows(run / "metrics.csv")
    return [(int(row["step"]) + 1, row["val_accuracy"]) for row in rows if "val_accuracy" in row]


def plot(configs: list[Path], recipes: dict[str, list[Path]], path: Path) -> None:
    """Validation accuracy over batches: a colour for each recipe, a line for each seed."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    ends: dict[Path, tuple[int, float]] = {}
    for number, config in enumerate(configs):
        runs, before = recipes[config.stem], recipes.get(predecessor(config) or "")
        for seed, one in enumerate(runs):
            points = validations(one)
            if before is not None:
                start = ends[before[seed]]
                points = [start, *((start[0] + batch, value) for batch, value in points)]
            ends[one] = points[-1]
            batches, values = zip(*points, strict=True)
            label = config.stem if seed == 0 else None
            axes.plot(batches, values, ".-", color=f"C{number}", linewidth=1, label=label)
    axes.set_xlabel("batches")
    axes.set_ylabel("validation accuracy")
    axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> None:
    """Run, print the table, draw the picture if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/seeds"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--option", nargs="*", default=[], help="for every run, without dashes")
    arguments = parser.parse_args()
    options = [f"--{one}" for one in arguments.option]
    recipes = {
        config.stem: [place(arguments.folder, config.stem, seed) for seed in arguments.seeds]
        for config in arguments.configs
    }
    with ThreadPoolExecutor(arguments.jobs) as pool:
        jobs = [
            pool.submit(chain, arguments.configs, seed, arguments.folder, options)
            for seed in arguments.seeds
        ]
    for job in jobs:
        job.result()
    print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}, {arguments.jobs} at a time\n")
    print(zolit.compare(recipes).markdown())
    if arguments.plot:
        plot(arguments.configs, recipes, arguments.plot)


if __name__ == "__main__":
    main()
