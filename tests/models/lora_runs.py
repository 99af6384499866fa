"""Runs of the tiny model with an adapter, for the tests of runs and of exports."""

import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from cli_recipe import changed, recipe, write

from zolit.cli import main, run

LORA = {"class_path": "LoRA", "init_args": {"rank": 4, "alpha": 8}}
OTHERS = ["*.k_proj.weight", "*.o_proj.weight", "*.mlp.*.weight"]
QUIET = {"trainer.enable_progress_bar": False, "run.zero_shot": False, "run.test_after_fit": False}
FLOATS = {
    "model.quantizer": "NoQuantizer",
    "model.perturber": {"class_path": "DensePerturber", "init_args": {"eps": 0.01}},
}
Files = tuple[Path, Path]


def fitted(given: Files, folder: Path, name: str, **changes: Any) -> Path:
    """A run of three steps."""
    options = {**QUIET, "model.adapter": LORA, "run.run_dir": str(folder / name)}
    main(["fit", "--config", write(changed(recipe(*given), {**options, **changes}), folder / "r")])
    return folder / name


def first_stage(given: Files, folder: Path) -> Path:
    """LoRA alone, beside int8 weights; steps so long that three of them can be seen."""
    return fitted(given, folder, "one", **{"model.optimizer.init_args.lr": 3.0})


def second_stage(given: Files, first: Path) -> Path:
    """The scales of the other layers, beside the first stage's run."""
    start = str(first / "checkpoints" / "last.ckpt")
    changes = {"model.start_from": start, "model.tune": OTHERS}
    return fitted(given, first.parent, "two", **changes)


def content(run: Path) -> dict[str, Any]:
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)


def model_of(run_folder: Path) -> torch.nn.Module:
    """The model of a run's last checkpoint, as ``zolit test`` has it."""
    last = str(run_folder / "checkpoints" / "last.ckpt")
    args = ["test", "--config", str(run_folder / "config.yaml"), "--ckpt_path", last]
    network: torch.nn.Module = run(args=args).model.network
    return network


IDS = torch.arange(2 * 12).view(2, 12) % 300 + 3


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits
