"""Whether `zolit fit --find_lr` lands near the best rate: proposal against a sweep, per recipe.

    OMP_NUM_THREADS=1 python benchmarks/find_lr.py run --steps 60
    python benchmarks/find_lr.py table

For each recipe the proposal for a run of so many steps is asked for, and then runs are made at its
eps with rates a factor of three apart: the proposal, three times and a third of it, and on as long
as the best one is at an end of what was tried. The last weights are measured on the recipe's test
rows; nothing is chosen by validation. A line of ``--results`` is a proposal or a run, and what is
there is not made again; a run that was broken off begins anew.

The proposal is made on seed 7, which draws other rows, batches and directions than the runs.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import waiting  # noqa: F401
import yaml
from result_lines import Results

ROOT = Path(__file__).resolve().parents[1]
RECIPES = (
    "mezo/rotten_tomatoes",
    "quzo/int8_rotten_tomatoes",
    "quzo/int4_rotten_tomatoes",
    "quickstart",
)
SEED = 7
RATIO = 3.0


def command(recipe: str, chosen: argparse.Namespace, seed: int, *more: str) -> str:
    """Run ``zolit fit`` on a recipe for so many steps; what it prints."""
    config = ROOT / "configs" / f"{recipe}.yaml"
    given = [sys.executable, "-m", "zolit.cli", "fit", "--config", str(config)]
    given += ["--model.seed", str(seed), "--data.init_args.seed", str(seed)]
    given += ["--trainer.max_steps", str(chosen.steps), "--trainer.max_time", "null"]
    model = yaml.safe_load(config.read_text(encoding="utf-8"))["model"]
    if "total_iters" in ((model.get("lr_scheduler") or {}).get("init_args") or {}):
        given += ["--model.lr_scheduler.total_iters", str(chosen.steps)]
    given += [*more, *(f"--{one}" for one in chosen.option)]
    done = subprocess.run(given, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.stdout


def proposal(recipe: str, chosen: argparse.Namespace, results: Results) -> dict[str, Any]:
    """lr and eps that are proposed for a recipe."""
    what = {"kind": "proposal", "recipe": recipe, "steps": chosen.steps}
    if (known := results.find(**what)) is not None:
        return known
    told = command(recipe, chosen, SEED, "--find_lr")
    found = re.search(r"--model.optimizer.lr (\S+) --model.perturber.eps (\S+);", told)
    if found is None:
        raise SystemExit(f"{recipe}: no rate is proposed\n{told}")
    lr, eps = float(found[1]), float(found[2])
    return results.add({**what, "lr": lr, "eps": eps, "told": told.splitlines()})


def loss_at(recipe: str, place: int, chosen: argparse.Namespace, results: Results) -> float:
    """Mean test loss over seeds of runs with the proposal times ``RATIO**place``."""
    rates = proposal(recipe, chosen, results)
    losses = []
    for seed in chosen.seeds:
        what = {"kind": "run", "recipe": recipe, "steps": chosen.steps, "seed": seed}
        known = results.find(**what, place=place)
        if known is None:
            lr = rates["lr"] * RATIO**place
            with tempfile.TemporaryDirectory() as folder:
                run = Path(folder, "run")
                given = ["--model.optimizer.lr", str(lr), "--run.run_dir", str(run)]
                given += ["--model.perturber.eps", str(rates["eps"]), "--run.zero_shot", "false"]
                given += ["--trainer.limit_val_batches", "0", "--trainer.enable_progress_bar=false"]
                command(recipe, chosen, seed, *given)
                final = json.loads((run / "summary.json").read_text(encoding="utf-8"))["final"]
            known = results.add({**what, "place": place, "lr": lr, **final})
        loss = known["test_loss"]
        losses.append(float("inf") if loss is None else float(loss))
    return sum(losses) / len(losses)


def sweep(recipe: str, chosen: argparse.Namespace, results: Results) -> dict[int, float]:
    """Losses by place, until the best is inside of what was tried."""
    losses = {place: loss_at(recipe, place, chosen, results) for place in (-1, 0, 1)}
    while (best := min(losses, key=losses.__getitem__)) in (min(losses), max(losses)):
        if abs(best) >= chosen.furthest:
            break
        place = best + (1 if best == max(losses) else -1)
        losses[place] = loss_at(recipe, place, chosen, results)
    return losses


def table(results: Results, chosen: argparse.Namespace) -> Iterator[str]:
    """Markdown: the proposal, the best of the sweep and every loss of a recipe."""
    yield "| recipe | proposed lr | eps | best of the sweep | within three | losses by rate |"
    yield "|---|---|---|---|---|---|"
    for recipe in chosen.recipes:
        rates = results.find(kind="proposal", recipe=recipe, steps=chosen.steps)
        runs = [
            one
            for one in results.lines
            if one["kind"] == "run" and (one["recipe"], one["steps"]) == (recipe, chosen.steps)
        ]
        if rates is None or not runs:
            yield f"| {recipe} | not run | | | | |"
            continue
        places = sorted({one["place"] for one in runs})
        mean: dict[int, float] = {}
        for place in places:
            known = [one["test_loss"] for one in runs if one["place"] == place]
            mean[place] = sum(float("inf") if v is None else v for v in known) / len(known)
        best = min(mean, key=mean.__getitem__)
        each = ", ".join(f"{rates['lr'] * RATIO**p:.2g}: {mean[p]:.4f}" for p in places)
        inside = "yes" if abs(best) <= 1 else "no"
        row = (f"{rates['lr']:g}", f"{rates['eps']:g}", f"{rates['lr'] * RATIO**best:.2g}", inside)
        yield f"| {recipe} | {' | '.join(row)} | {each} |"


def main() -> None:
    """Run what is missing, or print what there is."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), help="below configs/")
    parser.add_argument("--results", type=Path, default=Path("runs/find_lr.jsonl"))
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--furthest", type=int, default=3, help="factors of three from the proposal"
    )
    parser.add_argument("--option", nargs="*", default=[], help="of every run, without dashes")
    chosen = parser.parse_args()
    results = Results(chosen.results)
    if chosen.what == "run":
        chosen.results.parent.mkdir(parents=True, exist_ok=True)
        print(f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
        for recipe in chosen.recipes:
            sweep(recipe, chosen, results)
    print("\n".join(table(results, chosen)))


if __name__ == "__main__":
    main()
