"""Runs from Python, kept as those of the command line are."""

from pathlib import Path
from typing import Any

import lightning as L

from zolit.callbacks.defaults import TRAINER_DEFAULTS, keeping_options
from zolit.recipes.parts import module_of
from zolit.runs import fit as runs
from zolit.runs.finished import checkpoint_file, load_checkpoint
from zolit.runs.folder import RunFolder, RunOptions
from zolit.training.zero_order import ZeroOrderModule


def fit(
    module: L.LightningModule,
    data: L.LightningDataModule,
    run_dir: str | Path,
    resume: bool = False,
    overwrite: bool = False,
    options: RunOptions | None = None,
    callbacks: tuple[L.Callback, ...] = (),
    **trainer: Any,
) -> dict[str, Any]:
    """Measure, fine-tune, keep every step, measure the best checkpoint: as ``zolit fit`` does.

    Args:
        module: to be tuned.
        data: its rows; test rows are measured before and after.
        run_dir: folder of the run: journal, checkpoints, metrics.csv, summary.json.
        resume: go on with the run in that folder. Module, data and trainer must be those that it
            was made with; the weights are taken from the run.
        overwrite: replace an earlier run in that folder.
        options: what frames the run, such as ``zero_shot``; its ``run_dir`` and ``overwrite`` are
            not read.
        callbacks: beside those that keep the run; one of a class that zolit has made one of takes
            its place.
        trainer: options of Lightning's trainer, such as ``max_steps`` and ``val_check_interval``.

    Returns:
        What came of it, as in summary.json.

    Raises:
        UserError: whatever the user can mend.

    Example:
        >>> summary = fit(module, data, "runs/mine", max_steps=200)  # doctest: +SKIP
    """
    folder = RunFolder(run_dir, overwrite)
    if resume:
        folder.check_resumable()
    else:
        folder.check()
    options = options or RunOptions()
    given = {**TRAINER_DEFAULTS, "max_epochs": -1, "callbacks": callbacks, **trainer}
    made = L.Trainer(**given | keeping_options(given, module, folder, options))
    return runs.fit(made, module, data, folder, options, resume=resume)


def load(run: str | Path, checkpoint: str | Path | None = None) -> ZeroOrderModule:
    """The module of a run of the command line, with the weights of a checkpoint.

    ``load(run).network`` is the model of transformers, its tuned layers stored as the run stored
    them; call it as any other.

    Args:
        run: folder of the run, with its recipe.
        checkpoint: file of a checkpoint of it; by default its best, else its last.

    Raises:
        UserError: if the run or the checkpoint cannot be used.

    Example:
        >>> model = load("runs/mine").network  # doctest: +SKIP
    """
    folder = RunFolder(run)
    file = checkpoint_file(folder, None if checkpoint is None else Path(checkpoint), "load")
    module: ZeroOrderModule = module_of(folder.config.read_text(encoding="utf-8"))
    load_checkpoint(module, file)
    module.network.eval()
    return module
