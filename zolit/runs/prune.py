"""The life of a pruning run: figures of the dense model, its blocks, figures of the pruned one."""

import shutil
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.model_helpers import is_overridden

from zolit.calibration.model_digest import float_digests
from zolit.calibration.text import Window, drawn_windows
from zolit.caller import by_caller, option
from zolit.checkpoints.file import FileCheckpoints
from zolit.errors import UserError, tell
from zolit.files import write_text
from zolit.quiet import quiet_about_validation
from zolit.runs.fit import Recipe, no_recipe
from zolit.runs.folder import RunFolder, RunOptions, summary_of
from zolit.runs.keeping import ReportsPruning, StopRequested, Stops
from zolit.runs.metrics_file import write_rows
from zolit.runs.resume import earlier_zero_shot
from zolit.runs.text_windows import text_windows
from zolit.strategies.mask.choice_file import write_bits
from zolit.training.pruning import PruningModule


def prune(
    trainer: L.Trainer,
    module: PruningModule,
    data: L.LightningDataModule,
    folder: RunFolder,
    options: RunOptions | None = None,
    recipe: Recipe = no_recipe,
    resume: bool = False,
) -> dict[str, Any]:
    """Prune a model block by block and keep the run in a folder, or go on with the run there.

    Each block is written when it is pruned, so that a killed run goes on behind it. At the end the
    folder has the pruned model as ``checkpoints/last.ckpt`` and which entries are left as
    ``support.safetensors``; the files of single blocks are deleted then.

    Args:
        trainer: makes the steps and the tests; of `zolit.callbacks.trainer.make_trainer`.
        module: whose model is pruned.
        data: whose test rows or windows are measured before and after.
        folder: of the run.
        options: whether there are tests; None for the defaults.
        recipe: writes the configuration that is kept with the run.
        resume: go on with the run in ``folder``.

    Returns:
        What came of it, as in summary.json.

    Raises:
        UserError: whatever the user can mend. A run that is refused leaves nothing.
        StopRequested: if a signal ended the run between two blocks.
        KeyboardInterrupt: if Ctrl-C interrupted it.
    """
    options = options or RunOptions()
    if options.general_text is not None or options.weights_moved:
        raise UserError(
            f"{option('run.general_text')}, {option('run.weights_moved')}: pruning measures the "
            "test rows alone, expected neither; name the text as the data's test_text"
        )
    if resume and summary_of(folder).get("status") == "finished":
        shutil.rmtree(folder.blocks, ignore_errors=True)  # if it was killed while deleting them
        print(f"{folder.path}: finished, nothing to do")
        return summary_of(folder)
    try:
        run = _Run(trainer, module, data, folder, options)
        return run.make(recipe, resume)
    finally:
        folder.release()


class _Run:
    def __init__(
        self,
        trainer: L.Trainer,
        module: PruningModule,
        data: L.LightningDataModule,
        folder: RunFolder,
        options: RunOptions,
    ) -> None:
        self.trainer, self.module, self.data = trainer, module, data
        self.folder, self.options = folder, options
        self.report: ReportsPruning = next(
            one for one in _callbacks(trainer) if isinstance(one, ReportsPruning)
        )
        self._created = False
        self.tests = is_overridden("test_dataloader", data, L.LightningDataModule)

    def make(self, recipe: Recipe, resume: bool) -> dict[str, Any]:
        folder = self.folder
        if resume:
            folder.take_up()
            self.report.take_up(earlier_zero_shot(folder))
        else:
            folder.claim()
        try:
            windows = find_windows(self.module)
            self.data.prepare_data()
            self.data.setup("test")
            self.module.configure_model()
            device = self.trainer.strategy.root_device
            self.module.to(device)
            self.module.check([Window(one.ids.to(device), one.start) for one in windows])
            if self.tests and self.options.zero_shot and not self.report.zero_shot:
                self._test("dense")
            if not resume:
                folder.create()
                self._created = True
            folder.blocks.mkdir(parents=True, exist_ok=True)
            left = self.module.begin(folder.blocks)
        except BaseException:
            self._discard(resume)
            raise
        if not resume and (text := recipe({})):
            write_text(folder.config, text)
        self._write(None)
        try:
            self._prune_blocks(left)
        except UserError:
            self._discard(resume)
            raise
        return self._finish()

    def _discard(self, resume: bool) -> None:
        """Leave nothing of a run that is refused before its first block is done."""
        if resume:
            return
        if any(self.folder.blocks.glob("*.safetensors")):
            self._write("failed")
            return
        if self._created:
            self.folder.remove_files()
        self.folder.discard()

    def _prune_blocks(self, left: list[int]) -> None:
        if not left:
            return
        trainer, done = self.trainer, self.module.kept_blocks.count()
        self.module.steps_before = done
        if done:
            tell(f"going on after {done} blocks, from {self.folder.blocks}")
            for logger in trainer.loggers:
                if isinstance(logger, CSVLogger):
                    write_rows(logger, self._rows())
        self.module.network.train()  # a step sets it to eval mode; Lightning warns of any other
        try:
            with quiet_about_validation():
                trainer.fit(self.module, train_dataloaders=left)
        except SystemExit as stop:
            # Lightning turns Ctrl-C into SystemExit.
            requested = stop.__context__
            self._write("interrupted")
            if isinstance(requested, StopRequested):
                again = resume_command(self.folder.path, self.folder.config.is_file())
                count = self.module.kept_blocks.count()
                tell(f"stopped after block {count}; go on with: {again}")
                raise requested from None
            if trainer.interrupted:
                raise KeyboardInterrupt from stop
            raise
        stops = next((one for one in _callbacks(trainer) if isinstance(one, Stops)), None)
        if stops is not None and stops.requested is not None:
            self._write("interrupted")
            raise StopRequested(stops.requested, trainer.global_step)

    def _finish(self) -> dict[str, Any]:
        module, folder = self.module, self.folder
        module.network.eval()
        kept = module.kept_blocks
        supports = kept.supports()
        digests = {
            name: one for name, one in float_digests(module.network).items() if name not in supports
        }
        write_bits(folder.support, supports, digests, "")
        self._save_checkpoint(kept.count())
        self.report.pruned()
        if self.tests and self.options.test_after_fit:
            self._test("pruned")
        summary = self._write("finished")
        shutil.rmtree(folder.blocks)
        return summary

    def _save_checkpoint(self, blocks: int) -> None:
        """The pruned weights as a checkpoint, for `zolit export` and other commands."""
        content: dict[str, Any] = {
            "epoch": 0,
            "global_step": blocks,
            "pytorch-lightning_version": L.__version__,
            "state_dict": self.module.state_dict(),
        }
        self.module.on_save_checkpoint(content)
        FileCheckpoints().save_checkpoint(content, self.folder.checkpoints / "last.ckpt")

    def _test(self, which: str) -> None:
        loggers, self.trainer.loggers = self.trainer.loggers, []  # they would make folders
        self.trainer.test(self.module, datamodule=self.data, verbose=False)
        self.trainer.loggers = loggers
        metrics = self.trainer.callback_metrics
        if metrics:
            each = (f"{name.replace('_', ' ')} {float(metrics[name]):.4f}" for name in metrics)
            print(f"{which}: {', '.join(sorted(each))}", flush=True)

    def _write(self, status: str | None) -> dict[str, Any]:
        return self.report.write(self.module, self.module.kept_blocks.figures(), status)

    def _rows(self) -> list[dict[str, float]]:
        """Rows of metrics.csv of the blocks that are done."""
        return [
            {
                "step": float(number),
                "output_error": one.output_error,
                "kept": one.kept,
                "step_ms": 1e3 * one.seconds,
            }
            for number, one in enumerate(self.module.kept_blocks.figures())
        ]


def find_windows(module: PruningModule) -> list[Window]:
    """The windows of a module's calibration text; its model is not loaded for this.

    Raises:
        UserError: if there is no text, or it does not fit the model.
    """
    asked = module.calibration
    if asked.text is None:
        raise UserError(
            f"{option('model.calibration.text')}: got none, expected a file of text, such as one "
            "of C4; name it"
        )
    return text_windows(
        module.source,
        "calibration",
        asked.text,
        asked.package,
        asked.samples,
        asked.length,
        asked.seed,
        drawn_windows,
    )


def resume_command(folder: Path, recipe: bool) -> str:
    """The command or Python call that goes on with the run in a folder."""
    if recipe:
        return f"zolit prune --resume {folder}"
    return f"zolit.prune(module, data, {str(folder)!r}, resume=True)"


def _callbacks(trainer: Any) -> list[L.Callback]:
    found: list[L.Callback] = trainer.callbacks
    return found


def refuse_trainer_steps(given: Any) -> None:
    """Refuse options of the trainer that count steps: there is one for each block.

    Args:
        given: options of the trainer by name.

    Raises:
        UserError: naming the option.
    """
    left_open = {"max_steps": -1, "limit_train_batches": 1.0}
    for name in ("max_steps", "max_epochs", "min_steps", "min_epochs", "limit_train_batches"):
        value, default = given.get(name), left_open.get(name)
        if value is not None and not (type(value) is type(default) and value == default):
            raise UserError(
                f"{option(f'trainer.{name}')}: got {value!r}, but pruning makes one step for each "
                f"block of the model; leave it out of {by_caller('zolit prune', 'zolit.prune')}"
            )
    if given.get("fast_dev_run"):
        raise UserError(
            f"{option('trainer.fast_dev_run')}: got {given['fast_dev_run']!r}, which would leave "
            "blocks dense; leave it out"
        )
