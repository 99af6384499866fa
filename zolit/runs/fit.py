"""The life of a run: zero-shot figures, fitting, figures of the best checkpoint, report."""

import sys
from collections.abc import Callable, Collection, Mapping
from typing import Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

from zolit.checkpoints.file import use_whole_files
from zolit.files import write_text
from zolit.kernels.dispatch import failed_to_compile
from zolit.runs.against_start import AgainstStart
from zolit.runs.folder import RunFolder, RunOptions, summary_of
from zolit.runs.keeping import KeepsJournal, Reports, StopRequested, Stops
from zolit.runs.masks import keep_mask, prepare_mask, take_up
from zolit.runs.metrics_file import write_rows
from zolit.runs.resume import Resumption, nothing_to_do, resume_command
from zolit.runs.resume_checkpoint import (
    CheckpointResumption,
    finished_already,
    resumes_by_checkpoint,
)
from zolit.runs.settled import settled_options
from zolit.runs.validations import check_validation

Recipe = Callable[[Mapping[str, Any]], str]
"""Writes the configuration of a run as YAML. Its argument fills numbers that the configuration
leaves open, by dotted key (`settled_options`)."""


def no_recipe(settled: Mapping[str, Any]) -> str:
    """The configuration of a run that was made from Python: none."""
    return ""


def fit(
    trainer: L.Trainer,
    module: L.LightningModule,
    data: L.LightningDataModule,
    folder: RunFolder,
    options: RunOptions | None = None,
    recipe: Recipe = no_recipe,
    resume: bool = False,
    asked: Collection[str] = (),
    ckpt_path: str | None = None,
    weights_only: bool | None = None,
    loaded: Callable[[], None] | None = None,
) -> dict[str, Any]:
    """Make a run in a folder of its own, or go on with the one that is there.

    The folder is taken at once, so that no other run takes it, and given back if the run is
    refused; nothing is written into it before the model is loaded and the data prepared. What is
    kept depends on the trainer's callbacks; those of the command line are made by
    `zolit.callbacks.defaults.default_callbacks`.

    Args:
        trainer: that makes the steps.
        module: to be tuned; its weights are moved.
        data: its rows. Those for a test are measured before and after fitting.
        folder: of the run.
        options: what frames the run; None for the defaults of `RunOptions`. Its ``run_dir`` and
            ``overwrite`` are not read: they are in ``folder``.
        recipe: writes the configuration that is kept with the run.
        resume: go on with the run in ``folder``.
        asked: options that the user changes by name, of a run that is resumed.
        ckpt_path: of a checkpoint to start from, of another run.
        weights_only: of that checkpoint, as in `Trainer.fit`.
        loaded: called when data and model of a new run are there and nothing is measured yet, such
            as to choose a learning rate.

    Returns:
        What came of it, as in summary.json; empty where the trainer has no `RunReport`. Of a
        finished run of which nothing more is asked, what its summary.json says.

    Raises:
        UserError: whatever the user can mend.
        StopRequested: if a signal ended the run between two steps.
        KeyboardInterrupt: if Ctrl-C interrupted it.

    Example:
        ::

            folder = RunFolder("runs/first")
            trainer = L.Trainer(
                max_steps=200,
                num_sanity_val_steps=0,
                inference_mode=False,
                logger=csv_logger(folder.path),
                callbacks=default_callbacks(folder),
            )
            summary = fit(trainer, module, data, folder)
    """
    options = options or RunOptions()
    if resume and (said := said_of_finished(module, folder, recipe({}))) is not None:
        print(said)
        return summary_of(folder)
    use_whole_files(trainer)
    journal: KeepsJournal | None = _one(trainer, KeepsJournal)
    try:
        _run(
            trainer,
            module,
            data,
            folder,
            options,
            recipe,
            resume,
            asked,
            ckpt_path,
            weights_only,
            loaded,
        )
    finally:
        folder.release()
        if journal is not None:
            journal.close()
    report: Reports | None = _one(trainer, Reports)
    return {} if report is None else report.summary(trainer, module)


def said_of_finished(module: L.LightningModule, folder: RunFolder, config: str) -> str | None:
    """A sentence if a run is finished and the command asks for no more steps; None otherwise.

    Args:
        module: of the run.
        folder: of the run.
        config: YAML of the command.
    """
    asks = finished_already if resumes_by_checkpoint(module) else nothing_to_do
    return asks(folder, config)


def _run(
    trainer: L.Trainer,
    module: L.LightningModule,
    data: L.LightningDataModule,
    folder: RunFolder,
    options: RunOptions,
    recipe: Recipe,
    resume: bool,
    asked: Collection[str],
    ckpt_path: str | None,
    weights_only: bool | None,
    loaded: Callable[[], None] | None,
) -> None:
    journal: KeepsJournal | None = _one(trainer, KeepsJournal)
    resumed = _resumption(module, folder, journal, options) if resume else None
    if resumed is None:
        folder.claim()
    tests = is_overridden("test_dataloader", data, L.LightningDataModule)
    try:
        compared = AgainstStart(module, folder, options)
        # Done once before the folder is written: inside trainer.fit an error would leave files.
        data.prepare_data()
        data.setup("fit")
        check_validation(trainer, data.train_dataloader())
        if resumed is not None:
            take_up(module, folder.path)
        computed = prepare_mask(module, data, folder)
        if loaded is not None and resumed is None:
            module.configure_model()
            loaded()
        if options.zero_shot and tests and not (resumed and resumed.zero_shot):
            _measure_untuned(trainer, module, data)
        module.configure_model()
        module.configure_optimizers()
    except BaseException:
        folder.discard()
        raise
    if resumed is None:
        folder.create(keeps_saliency=computed)
        keep_mask(module, folder)
        if journal is not None:
            folder.release()  # it holds the same lock from here on
            journal.claim(folder.path)
    else:
        text = recipe(settled_options(module))
        ckpt_path = resumed.prepare(trainer, module, data, text, asked)
        keep_mask(module, folder)  # now that it is known to be the run's
    try:
        _make_steps(
            trainer, module, data, folder, recipe, resumed, compared, ckpt_path, weights_only
        )
    except Exception:
        if trainer.global_step == 0:
            folder.discard()
        raise
    stop: Stops | None = _one(trainer, Stops)
    if stop is not None and stop.requested is not None:
        raise StopRequested(stop.requested, trainer.global_step)
    if options.test_after_fit and tests:
        # Without a best checkpoint the weights at the end are tested.
        best = getattr(trainer.checkpoint_callback, "best_model_path", "") or None
        trainer.test(module, datamodule=data, ckpt_path=best, verbose=False)
    report: Reports | None = _one(trainer, Reports)
    if compared.asked and report is not None:
        report.against_start = compared.end()
        report.write(trainer, module)


def _measure_untuned(
    trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule
) -> None:
    loggers, trainer.loggers = trainer.loggers, []  # they would make folders
    trainer.test(module, datamodule=data, verbose=False)
    trainer.loggers = loggers
    metrics = trainer.callback_metrics
    if trainer.is_global_zero and metrics:
        figures = (f"{name.replace('_', ' ')} {float(metrics[name]):.4f}" for name in metrics)
        print(f"zero-shot: {', '.join(sorted(figures))}", flush=True)


def _make_steps(
    trainer: L.Trainer,
    module: L.LightningModule,
    data: L.LightningDataModule,
    folder: RunFolder,
    recipe: Recipe,
    resumed: Resumption | CheckpointResumption | None,
    compared: AgainstStart,
    ckpt_path: str | None,
    weights_only: bool | None,
) -> None:
    journal: KeepsJournal | None = _one(trainer, KeepsJournal)
    goes_on = journal is not None or resumes_by_checkpoint(module)
    report: Reports | None = _one(trainer, Reports)
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            _ = logger.experiment  # it expects an empty folder, so before our files
            if resumed is not None:
                write_rows(logger, resumed.rows)
    if resumed is None:
        compared.begin()
    if resumed is not None and report is not None:
        report.take_up(resumed.zero_shot, resumed.rows, resumed.steps_after)
    if text := recipe(settled_options(module)):
        write_text(folder.config, text)
    if journal is not None:
        journal.config = text
    try:
        trainer.fit(module, datamodule=data, ckpt_path=ckpt_path, weights_only=weights_only)
    except SystemExit as stop:
        # Lightning turns Ctrl-C into SystemExit.
        requested = stop.__context__
        if not isinstance(requested, StopRequested):
            if trainer.interrupted:
                raise KeyboardInterrupt from stop
            raise
    except Exception as error:
        stops: Stops | None = _one(trainer, Stops)
        if stops is None or stops.requested is None or not failed_to_compile(error):
            raise
        # The terminal sends Ctrl-C to the compiler too, which then leaves nothing to run.
        requested = StopRequested(stops.requested, trainer.global_step)
    else:
        return
    said = f"zolit: stopped after step {requested.step}"
    if goes_on:
        said += f"; go on with: {resume_command(folder.path, bool(text))}"
    print(said, file=sys.stderr)
    raise requested from None


def _resumption(
    module: L.LightningModule,
    folder: RunFolder,
    journal: KeepsJournal | None,
    options: RunOptions,
) -> Resumption | CheckpointResumption:
    if resumes_by_checkpoint(module):
        return CheckpointResumption(folder)
    return Resumption(folder, journal, options.salvage)


def _one(trainer: Any, kind: Any) -> Any:
    """The trainer's first callback of a kind, None without one."""
    return next((one for one in trainer.callbacks if isinstance(one, kind)), None)
