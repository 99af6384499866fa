"""Runs from Python, kept as those of the command line are."""

from pathlib import Path
from typing import Any

import lightning as L

from zolit.callbacks.defaults import TRAINER_DEFAULTS, keeping_options
from zolit.errors import UserError
from zolit.export.formats import FORMATS
from zolit.export.run import export
from zolit.quiet import quiet_about_the_folder
from zolit.runs import fit as runs
from zolit.runs.finished import checkpoint_file, load_checkpoint, module_of_run, recipe_text
from zolit.runs.folder import RunFolder, RunOptions
from zolit.runs.replay import replay as replayed
from zolit.runs.verify import verify as verified
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
    if not isinstance(data, L.LightningDataModule):
        raise UserError(
            f"data: expected a LightningDataModule, got {type(data).__name__}; give one whose "
            "train_dataloader returns it (val_dataloader and test_dataloader are measured), or "
            "hand the loader to the fit of a Lightning Trainer, which keeps no run"
        )
    folder = RunFolder(run_dir, overwrite)
    if resume:
        folder.check_resumable()
    else:
        folder.check()
    options = options or RunOptions()
    given = {**TRAINER_DEFAULTS, "max_epochs": -1, "callbacks": callbacks, **trainer}
    made = L.Trainer(**given | keeping_options(given, module, folder, options))
    with quiet_about_the_folder():
        return runs.fit(made, module, data, folder, options, resume=resume)


def load(
    run: str | Path, checkpoint: str | Path | None = None, module: ZeroOrderModule | None = None
) -> ZeroOrderModule:
    """The module of a run, with the weights of a checkpoint.

    ``load(run).network`` is the model of transformers, its tuned layers stored as the run stored
    them; call it as any other.

    Args:
        run: folder of the run.
        checkpoint: file of a checkpoint of it; by default its best, else its last.
        module: made as for the run. A run of the command line needs none: its recipe describes it.
            A run of `fit` has no recipe.

    Returns:
        The module that was given, or the one that the recipe describes.

    Raises:
        UserError: if the run or the checkpoint cannot be used, or is of another model.

    Example:
        >>> model = load("runs/mine").network  # doctest: +SKIP
        >>> model = load("runs/from_python", module=module).network  # doctest: +SKIP
    """
    folder = RunFolder(run)
    file = checkpoint_file(folder, None if checkpoint is None else Path(checkpoint), "load")
    call = f"zolit.load({str(run)!r}, module=module)"
    found: ZeroOrderModule = module_of_run(recipe_text(folder), folder.path, call, module)
    load_checkpoint(found, file)
    found.network.eval()
    return found


def replay(
    run: str | Path,
    to: str | Path,
    until: int | None = None,
    module: ZeroOrderModule | None = None,
    salvage: bool = False,
) -> Path:
    """Write the checkpoint of any step of a run, from its journal: as ``zolit replay`` does.

    Args:
        run: folder of the run.
        to: folder for the checkpoint, made if it does not exist.
        until: number of steps; by default all.
        module: made anew as for the run, with the weights that it started from; its weights are
            moved. A run of the command line needs none.
        salvage: use the intact part of a damaged journal.

    Returns:
        The file, for `load`.

    Raises:
        UserError: if there is no such step, or the weights are not those of the run.

    Example:
        >>> file = replay("runs/mine", "runs/replayed", until=50)  # doctest: +SKIP
    """
    return replayed(Path(run), until, Path(to), salvage, module)


def verify(
    run: str | Path,
    module: ZeroOrderModule | None = None,
    records_only: bool = False,
    salvage: bool = False,
) -> list[int]:
    """Check every record of a run and the weights that they make: as ``zolit verify`` does.

    Args:
        run: folder of the run.
        module: made anew as for the run, with the weights that it started from; its weights are
            moved. A run of the command line needs none.
        records_only: check the file alone, without a model.
        salvage: check the intact part of a damaged journal.

    Returns:
        Numbers of steps after which the weights were found to be those of the run.

    Raises:
        UserError: naming the first place that fails.

    Example:
        >>> steps = verify("runs/mine")  # doctest: +SKIP
    """
    return verified(Path(run), records_only, salvage, module)


def export_model(
    run: str | Path,
    to: str | Path,
    kind: str = "safetensors",
    checkpoint: str | Path | None = None,
    gguf_type: str | None = None,
    module: ZeroOrderModule | None = None,
) -> None:
    """Write the model of a run as a folder that other tools load: as ``zolit export`` does.

    Args:
        run: folder of the run.
        to: folder that is new or empty.
        kind: ``safetensors`` (floats), ``torchao``, ``gguf`` or ``peft`` (docs/export.md).
        checkpoint: file of a checkpoint of the run; by default its best, else its last.
        gguf_type: block format, for ``gguf`` alone.
        module: made as for the run; it becomes the exported model and is of no use afterwards. A
            run of the command line needs none.

    Raises:
        UserError: if the run or the folder cannot be used, or the model has no such form.

    Example:
        >>> export_model("runs/mine", "tuned")  # doctest: +SKIP
    """
    if kind not in FORMATS:
        raise UserError(f"kind: got {kind!r}, expected one of {', '.join(FORMATS)}")
    file = None if checkpoint is None else Path(checkpoint)
    export(Path(run), Path(to), kind, file, gguf_type, module)
