"""Folders of runs, written by hand: what a run would have left."""

import csv
import json
from pathlib import Path
from typing import Any

import yaml

RECIPE: dict[str, Any] = {
    "model": {
        "perturber": {"class_path": "zolit.strategies.ScalePerturber", "init_args": {"eps": 0.01}},
        "optimizer": {"class_path": "zolit.optim.ZOSGD", "init_args": {"lr": 0.1}},
        "seed": 0,
    },
    "data": {
        "class_path": "zolit.datamodules.PromptDataModule",
        "init_args": {"task": "sst2", "test_size": 100, "batch_size": 8, "seed": 0},
    },
    "trainer": {"max_steps": 4, "limit_test_batches": 1.0},
    "run": {"run_dir": "runs/one"},
}
JUDGED = {"primary": "accuracy", "modes": {"loss": "min", "accuracy": "max"}}


def changed(recipe: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    found = json.loads(json.dumps(recipe))
    for key, value in options.items():
        *groups, leaf = key.split(".")
        place = found
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = value
    return found


def made(
    folder: Path,
    accuracy: float | None,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    recipe: bool = True,
    curve: tuple[float, ...] = (0.5, 0.6),
    totals: bool = True,
    **summary: Any,
) -> Path:
    """A finished run of four steps, validated after each second one.

    Args:
        folder: of the run.
        accuracy: of the test; None for a run without one.
        seed: of model and rows.
        options: that the recipe has otherwise, by dotted key.
        recipe: whether there is a config.yaml, as the command line leaves one.
        curve: accuracy of its validations.
        totals: whether metrics.csv has wall-clock and passes.
        summary: entries of summary.json that are otherwise; ``status=None`` leaves none.
    """
    folder.mkdir(parents=True)
    seeds = {"model.seed": seed, "data.init_args.seed": seed}
    if recipe:
        text = yaml.safe_dump(changed(RECIPE, {**seeds, **(options or {})}))
        (folder / "config.yaml").write_text(text, encoding="utf-8")
    columns = ["step", "train_loss", "step_ms", "seconds", "forwards", "val_loss", "val_accuracy"]
    with (folder / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for step in range(4):
            row = {"step": step, "train_loss": 1 / (step + 1), "step_ms": 100 * (step + 1)}
            if totals:
                row |= {"seconds": 10.0 * (step + 1), "forwards": 2 * (step + 1)}
            writer.writerow(row)
            if step % 2:
                figures = {"val_loss": 0.5, "val_accuracy": curve[step // 2]}
                writer.writerow({"step": step, **figures})
    final = None if accuracy is None else {"test_loss": 0.4, "test_accuracy": accuracy}
    told = {
        "status": "finished",
        "judged": JUDGED,
        "zero_shot": {"test_loss": 0.7, "test_accuracy": 0.5},
        "final": final,
        "best": {"by": "val_loss", "step": 4, "val_loss": 0.5, "val_accuracy": curve[1]},
        "steps": 4,
        "fit_seconds": 40.0 + seed,
        "forwards": 8,
        "backwards": None,
        "peak_memory_mb": 500.0 + seed,
        "memory": "resident",
        "seed": seed,
        **summary,
    }
    if told["status"] is not None:
        (folder / "summary.json").write_text(json.dumps(told), encoding="utf-8")
    (folder / "checkpoints").mkdir()
    (folder / "checkpoints" / "last.ckpt").write_bytes(b"1" * 3 * 2**20)
    (folder / "checkpoints" / "best.ckpt").write_bytes(b"1" * 2**20)
    return folder
