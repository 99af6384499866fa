"""How a step's cost grows with tokens, queries, model and threads.

    python benchmarks/scaling.py --plot scaling.png --json scaling.jsonl

Each row is ``benchmarks/step.py`` on one recipe and two plain bfloat16 forwards, in a process of
its own. A sweep changes one quantity; the others stay at 16 prompts of 48 tokens, one query,
SmolLM2-135M and two threads. Larger models are Llama shapes with random weights.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

RECIPE = "scales of int4"
BASE: dict[str, Any] = {"model": "smollm2", "batch": 16, "length": 48, "queries": 1, "threads": 2}
SWEEPS: dict[str, list[dict[str, Any]]] = {
    "tokens": [
        {"batch": batch, "length": length}
        for batch, length in ((4, 32), (16, 32), (16, 128), (16, 256), (32, 256))
    ],
    "queries": [{"queries": count} for count in (1, 8, 16)],
    "model": [{"model": name} for name in ("135m", "360m", "1.1b", "7b")],
    "threads": [{"threads": count} for count in (1, 2)],
}


def tokens(point: dict[str, Any]) -> int:
    """Tokens of a batch."""
    return int(point["batch"]) * int(point["length"])


def measure(point: dict[str, Any], recipe: str, repeats: int) -> dict[str, float]:
    """Milliseconds of a step and of two plain forwards, and the step's parts."""
    script = Path(__file__).with_name("step.py")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "rows.jsonl")
        command = [sys.executable, str(script), "--json", str(file), "--repeats", str(repeats)]
        for name in ("model", "batch", "length", "queries"):
            command += [f"--{name}", str(point[name])]
        command += ["--compile", "blocks", "--only", "two bf16 forwards", recipe]
        environment = {**os.environ, "OMP_NUM_THREADS": str(point["threads"])}
        subprocess.run(  # noqa: S603
            command, check=True, capture_output=True, env=environment, timeout=1800
        )
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    plain, step = (
        next(row for row in rows if row["name"] == n) for n in ("two bf16 forwards", recipe)
    )
    return {
        "step_ms": step["step_ms"],
        "forwards_ms": plain["step_ms"],
        "forward_ms": step["forward_ms"],
        "decode_ms": step["decode_ms"],
        "update_ms": step["update_ms"],
    }


def label(sweep: str, point: dict[str, Any]) -> str:
    """What a point of a sweep is called."""
    return str(tokens(point)) if sweep == "tokens" else str(point[sweep])


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """A panel for each sweep: the step and two forwards, in milliseconds."""
    sweeps = list(dict.fromkeys(row["sweep"] for row in rows))
    figure = Figure(figsize=(4 * len(sweeps), 3.5), layout="constrained")
    panels = figure.subplots(1, len(sweeps), squeeze=False)[0]
    for axes, sweep in zip(panels, sweeps, strict=True):
        chosen = [row for row in rows if row["sweep"] == sweep]
        names = [row["label"] for row in chosen]
        axes.plot(names, [row["step_ms"] for row in chosen], marker="o", label="step")
        axes.plot(names, [row["forwards_ms"] for row in chosen], marker="s", label="two forwards")
        axes.set_yscale("log")
        axes.set_xlabel(sweep)
        axes.set_ylabel("ms")
        axes.legend()
    FigureCanvasAgg(figure).print_png(str(path))


def main() -> None:
    """Measure the sweeps asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sweeps", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    parser.add_argument("--recipe", default=RECIPE, help="name of a row of step.py")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="points of the sweeps, such as 7b")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = []
    for sweep in arguments.sweeps:
        for change in SWEEPS[sweep]:
            point = {**BASE, **change}
            if arguments.only and label(sweep, point) not in arguments.only:
                continue
            found = measure(point, arguments.recipe, arguments.repeats)
            rows.append({"sweep": sweep, "label": label(sweep, point), **point, **found})
            if arguments.json:  # as it goes: a sweep takes minutes
                arguments.json.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = Table(title=arguments.recipe, box=None, title_justify="left")
    for head in ("sweep", "at", "step ms", "two forwards ms", "ratio", "decode ms", "update ms"):
        table.add_column(head, justify="left" if head in ("sweep", "at") else "right")
    for row in rows:
        numbers = (row["step_ms"], row["forwards_ms"])
        ratio = row["step_ms"] / row["forwards_ms"]
        parts = (f"{row['decode_ms']:.0f}", f"{row['update_ms']:.0f}")
        table.add_row(
            row["sweep"], row["label"], *(f"{n:.0f}" for n in numbers), f"{ratio:.2f}", *parts
        )
    Console(width=100).print(table)
    if arguments.plot:
        plot(rows, arguments.plot)


if __name__ == "__main__":
    main()
