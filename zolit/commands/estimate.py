"""``zolit estimate``: the memory that a recipe needs, before anything is loaded."""

import json as json_format
import os
from dataclasses import asdict, replace

import lightning as L
from lightning.pytorch.utilities.model_helpers import is_overridden
from rich.console import Console

from zolit.calibration.options import SaliencyOptions
from zolit.callbacks.peak_memory import resident_memory
from zolit.commands.saliency import make_saliency
from zolit.commands.tables import memory_table
from zolit.datamodules.limits import context_length
from zolit.errors import NotFetchedError
from zolit.memory.batches import Batches, assumed_batches, largest_batches, shape
from zolit.memory.estimate import Estimate, estimate_memory
from zolit.memory.first_order import GPU_NOTE, estimate_first_order
from zolit.memory.machine import Machine, machine_memory, verdict
from zolit.runs.folder import RunOptions
from zolit.strategies import Sensitive
from zolit.training.first_order import FirstOrderModule
from zolit.training.zero_order import ZeroOrderModule

_SCORED = (
    "The start of the run, which scores the weights for mask Sensitive, is not counted: it holds "
    "the model's floats, and weights, gradients and scores of one block in float32."
)


class Trainer(L.Trainer):
    """Lightning's Trainer with two more commands: methods are the commands of ``zolit``."""

    def estimate(
        self,
        model: ZeroOrderModule | FirstOrderModule,
        datamodule: L.LightningDataModule,
        json: bool = False,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
        options: RunOptions | None = None,
    ) -> None:
        """What memory a run would need; nothing is loaded and nothing is written.

        The table goes to the standard output.

        Args:
            model: the module of the recipe.
            datamodule: its data.
            json: print bytes as one JSON object instead of a table.
            ckpt_path: ignored; it is an argument because the config.yaml of a run names it.
            weights_only: ignored, too.
            options: of the run: they say whether it makes tests. None for the defaults.

        Raises:
            UserError: whatever the run would be refused for before it loads weights.
        """
        # Rows of the hub are used if they have been downloaded already.
        os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
        options = options or RunOptions()
        has_tests = is_overridden("test_dataloader", datamodule, L.LightningDataModule)
        tests = has_tests and (options.zero_shot or options.test_after_fit)
        model.source.load_config(weights=False)
        batches = _batches(self, model, datamodule, tests)
        on_host = self.strategy.root_device.type == "cpu"
        saves = self.checkpoint_callback is not None
        base = resident_memory() if on_host else 0
        reads = saves and has_tests and options.test_after_fit
        if isinstance(model, FirstOrderModule):
            estimate = estimate_first_order(model, batches, base, reads)
            if not on_host:
                batches = replace(batches, note=f"{batches.note}; {GPU_NOTE}")
        else:
            estimate = estimate_memory(model, batches, base, reads)
        mask = getattr(model, "mask", None)
        if isinstance(mask, Sensitive) and mask.file is None:
            batches = replace(batches, note=" ".join(filter(None, (batches.note, _SCORED))))
        machine = machine_memory(self.strategy.root_device, resident_memory())
        if json:
            print(json_format.dumps(facts(estimate, batches, machine)))
            return
        console = Console()
        console.print(memory_table(estimate, shape(batches.train), shape(batches.evaluation)))
        console.print(batches.note, highlight=False)
        console.print(verdict(estimate.total, machine), highlight=False)

    def score(
        self,
        model: L.LightningModule,
        datamodule: L.LightningDataModule,
        to: str | None = None,
        saliency: SaliencyOptions = SaliencyOptions(),  # noqa: B008 (it is frozen)
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Score how much the loss depends on each weight, and write the scores to a file.

        Args:
            model: the module of the recipe.
            datamodule: its data.
            to: the new file, of safetensors.
            saliency: what is scored, on which text.
            ckpt_path: ignored; it is an argument because the config.yaml of a run names it.
            weights_only: ignored, too.

        Raises:
            UserError: if an option, the text or the model cannot be used.
        """
        make_saliency(model, datamodule, saliency, to)

    def prune(
        self,
        model: L.LightningModule,
        datamodule: L.LightningDataModule,
        ckpt_path: str | None = None,
        weights_only: bool | None = None,
    ) -> None:
        """Set weights of the model to zero, block by block; the command line calls
        `zolit.runs.prune.prune`, which keeps the run.

        Args:
            model: a `PruningModule`.
            datamodule: whose test rows are measured before and after.
            ckpt_path: ignored; it is an argument because the config.yaml of a run names it.
            weights_only: ignored, too.
        """
        raise NotImplementedError("call zolit.prune, which keeps the run")

    # The method has another name than the command: the parser makes a group of options with the
    # name of the method, and there is a group ``saliency`` already.
    saliency = score


def facts(estimate: Estimate, batches: Batches, machine: Machine) -> dict[str, object]:
    """What is shown, as plain values by name: bytes, the batches, and whether the run fits."""
    return {
        **asdict(estimate),
        "peak_loading": estimate.peak_loading,
        "peak_running": estimate.peak_running,
        "total": estimate.total,
        "train_batch": shape(batches.train),
        "evaluation_batch": shape(batches.evaluation),
        "note": batches.note,
        "machine": asdict(machine),
        "fits": estimate.total <= machine.free,
    }


def _batches(
    trainer: L.Trainer,
    module: ZeroOrderModule | FirstOrderModule,
    data: L.LightningDataModule,
    tests: bool,
) -> Batches:
    steps = None if trainer.max_steps < 0 else trainer.max_steps * module.micro_batches
    evaluations = []
    if is_overridden("val_dataloader", data, L.LightningDataModule):
        evaluations.append(("validate", _count(trainer.limit_val_batches)))
    if tests:
        evaluations.append(("test", _count(trainer.limit_test_batches)))
    try:
        return largest_batches(data, steps, evaluations)
    except NotFetchedError as error:
        context = context_length(module.source.load_config(weights=False))
        return assumed_batches(data, context, str(error).rstrip("."))


def _count(limit: int | float | None) -> int | None:
    """Number of batches that a limit of the trainer leaves; None for all, or a fraction."""
    return int(limit) if isinstance(limit, int) or limit == 0.0 else None
