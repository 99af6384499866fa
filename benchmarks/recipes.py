"""Time of a step and peak memory of shipped recipes, and the line of their headers that says so.

    OMP_NUM_THREADS=2 python benchmarks/recipes.py --write configs/quzo/int8_rotten_tomatoes.yaml

Each recipe runs for some steps through the command line in a process of its own, without
evaluation. The time is the median of its steps; memory is the resident set of the process at its
peak, Python and loading included.
"""

import argparse
import datetime
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

MARK = "# Measured: "


def run(config: Path, steps: int) -> dict[str, float]:
    """``step_ms_median`` and ``peak_memory_mb`` of the recipe's first steps."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "zolit.cli", "fit", "--config", str(config)]
        command += ["--trainer.max_steps", str(steps), "--trainer.limit_val_batches", "0"]
        command += ["--run.zero_shot", "false", "--run.test_after_fit", "false"]
        command += ["--run.run_dir", f"{folder}/run", "--trainer.enable_progress_bar", "false"]
        subprocess.run(command, check=True, capture_output=True, timeout=900)  # noqa: S603
        summary: dict[str, float] = json.loads(Path(folder, "run", "summary.json").read_text())
        return summary


def header(config: Path, summary: dict[str, float]) -> str:
    """The line for the recipe's header."""
    steps = yaml.safe_load(config.read_text())["trainer"]["max_steps"]
    seconds = summary["step_ms_median"] / 1e3
    threads = os.environ.get("OMP_NUM_THREADS", "2")
    return (
        f"{MARK}{seconds:.2f} s a step, {steps} steps in {seconds * steps / 60:.1f} min without "
        f"evaluation,\n#   {summary['peak_memory_mb'] / 1e3:.1f} GB resident at the peak "
        f"({threads} threads of x86-64 with AMX, {datetime.date.today()}, benchmarks/recipes.py)\n"
    )


def write(config: Path, line: str) -> None:
    """Put the line after the launch line, in place of an older one."""
    text = config.read_text(encoding="utf-8")
    text = re.sub(rf"^{MARK}.*\n(#   .*\n)?", "", text, flags=re.MULTILINE)
    first, rest = text.split("\n", 1)
    config.write_text(f"{first}\n{line}{rest}", encoding="utf-8")


def main() -> None:
    """Measure the recipes named on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--write", action="store_true", help="into the recipes' headers")
    arguments = parser.parse_args()
    for config in arguments.configs:
        line = header(config, run(config, arguments.steps))
        print(config, line, sep="\n", end="", flush=True)
        if arguments.write:
            write(config, line)


if __name__ == "__main__":
    main()
