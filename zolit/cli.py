"""``zolit fit | validate | test | predict | estimate``."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

# Read by tqdm when it is imported: a bar appears only for what takes longer than this many
# seconds, such as a download, and not for each file that is opened.
os.environ.setdefault("TQDM_DELAY", "5")

import lightning as L
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from rich.console import Console

from zolit.callbacks import Progress, RunReport
from zolit.cli_errors import COMMANDS, explain, read_given, user_error_behind
from zolit.cli_estimate import Trainer, print_estimate
from zolit.cli_table import result_table, write_predictions
from zolit.compat import quiet_libraries
from zolit.errors import UserError
from zolit.run_folder import RunFolder, RunOptions, write_atomically

TRAINER_DEFAULTS = {
    "accelerator": "auto",
    "devices": 1,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    # Buffers made while evaluating are written to while fitting, which inference mode forbids.
    "inference_mode": False,
}


class ZolitCLI(LightningCLI):
    """LightningCLI that keeps each run in a folder of its own.

    Nothing is written before the configuration has been read, every part of it made, the model
    loaded and the data prepared.

    Args:
        model_class: the LightningModule whose arguments form the group ``model``.
        default_datamodule: used where the configuration names no data module.
        args: command-line arguments, by default those of the process.

    Raises:
        UserError: whatever the user can mend.
    """

    def __init__(
        self,
        model_class: type[L.LightningModule],
        default_datamodule: type[L.LightningDataModule],
        args: list[str] | None = None,
    ) -> None:
        self.default_datamodule = default_datamodule
        self.given = read_given(sys.argv[1:] if args is None else args)
        no_exit = {"exit_on_error": False}
        super().__init__(
            model_class,
            L.LightningDataModule,
            subclass_mode_data=True,
            save_config_callback=None,
            trainer_class=Trainer,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            seed_everything_default=False,
            auto_configure_optimizers=False,
            parser_kwargs={**no_exit, **{command: dict(no_exit) for command in COMMANDS}},
            args=args,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {**LightningCLI.subcommands(), "estimate": {"model", "datamodule"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_class_arguments(RunOptions, "run")
        name = f"{self.default_datamodule.__module__}.{self.default_datamodule.__qualname__}"
        parser.set_defaults({"data": {"class_path": name}})
        # Any data module with an argument `source` is told which model reads its text.
        parser.link_arguments("model.source", "data.init_args.source")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            if (said := user_error_behind(error)) is not None:
                raise said from error
            message = getattr(error, "message", None) or str(error)
            known = next(iter(self._subcommand_parsers.values())).get_defaults().keys()
            raise UserError(explain(message, self.given, known, self._class_options())) from error
        self.command = str(self.config.subcommand)
        config = self.config[self.command]
        if config.run.run_dir is None:
            stem = Path(self.given.configs[-1]).stem if self.given.configs else self.command
            config.run.run_dir = str(Path("runs") / stem)
        path = config.ckpt_path
        if path is not None and path not in ("best", "last") and not Path(path).exists():
            raise UserError(f"ckpt_path: got {path!r}, expected a checkpoint file of a run.")

    def _parse_ckpt_path(self) -> None:
        """The configuration says what the model is; a checkpoint does not overrule it."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.command]
        self.folder = RunFolder(config.run.run_dir, config.run.overwrite)
        self._keeps_run = self.command == "fit" and not config.trainer.fast_dev_run
        if self._keeps_run:
            self.folder.check()

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            # Where null is allowed as well, jsonargparse wraps what a class raised.
            if (said := user_error_behind(error)) is not None:
                raise said from error
            raise

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config: Namespace = self.config_init[self.command].trainer
        given = _listed(config.callbacks)
        self.callbacks = given + [
            callback
            for callback in self._default_callbacks(config)
            if not any(isinstance(one, type(callback)) for one in given)
        ]
        logger: Any = config.logger
        if logger is None or logger is True:
            logger = self._csv_logger() if self._keeps_run else False
        if self._keeps_run and config.default_root_dir is None:
            kwargs["default_root_dir"] = str(self.folder.path)
        return super().instantiate_trainer(callbacks=self.callbacks, logger=logger, **kwargs)

    def fit(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, **kwargs: Any
    ) -> None:
        """Zero-shot figure, fit, figure of the best checkpoint, report."""
        if not self._keeps_run:
            self.trainer.fit(model, datamodule=datamodule, **kwargs)
            return
        options: RunOptions = self.config_init[self.command].run
        tests = is_overridden("test_dataloader", datamodule, L.LightningDataModule)
        if options.zero_shot and tests:
            loggers, self.trainer.loggers = self.trainer.loggers, []  # they would make folders
            self._test(model, datamodule, None)
            self.trainer.loggers = loggers
            self._say("zero-shot", self.trainer.callback_metrics)
        # What would be refused only inside trainer.fit is made once before the folder is.
        datamodule.prepare_data()
        datamodule.setup("fit")
        model.configure_model()
        model.configure_optimizers()
        self.folder.create()
        try:
            self._fit(model, datamodule, **kwargs)
        except UserError:
            if self.trainer.global_step == 0:
                self.folder.discard()
            raise
        if options.test_after_fit and tests:
            self._test(model, datamodule, self._best_checkpoint())
        self._print_report()

    def predict(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, **kwargs: Any
    ) -> None:
        """Predictions for the test rows, as CSV on the standard output where they are answers."""
        batches = self.trainer.predict(model, datamodule=datamodule, **kwargs) or []
        answers = getattr(datamodule, "answers", None)
        if answers is not None and self.trainer.is_global_zero:
            write_predictions(batches, answers, sys.stdout)  # type: ignore[arg-type]

    def estimate(
        self, model: Any, datamodule: L.LightningDataModule, json: bool = False, **kwargs: Any
    ) -> None:
        """The memory that ``fit`` would need with the same options."""
        options: RunOptions = self.config_init[self.command].run
        print_estimate(self.trainer, model, datamodule, options, json)

    def _fit(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, **kwargs: Any
    ) -> None:
        for logger in self.trainer.loggers:
            if isinstance(logger, CSVLogger):
                _ = logger.experiment  # takes an empty folder for granted, so before our files
        text = self._parser("fit").dump(self.config.fit, skip_none=False)
        write_atomically(self.folder.config, text)
        try:
            self.trainer.fit(model, datamodule=datamodule, **kwargs)
        except SystemExit as stop:
            # Lightning turns Ctrl-C into an exit of its own.
            if self.trainer.interrupted:
                raise KeyboardInterrupt from stop
            raise

    def _test(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, path: str | None
    ) -> None:
        self.trainer.test(model, datamodule=datamodule, ckpt_path=path, verbose=False)

    def _say(self, title: str, metrics: Mapping[str, Any]) -> None:
        if self.trainer.is_global_zero and metrics:
            figures = (f"{name.replace('_', ' ')} {float(metrics[name]):.4f}" for name in metrics)
            print(f"{title}: {', '.join(sorted(figures))}", flush=True)

    def _best_checkpoint(self) -> str | None:
        """Path of the best checkpoint; None: the weights as they are at the end."""
        return getattr(self.trainer.checkpoint_callback, "best_model_path", "") or None

    def _print_report(self) -> None:
        reports = [one for one in self.callbacks if isinstance(one, RunReport)]
        if reports and self.trainer.is_global_zero:
            summary = reports[0].summary(self.trainer, self.model)
            Console().print(result_table(summary, str(self.folder.path)))

    def _csv_logger(self) -> Logger:
        # Without name and version it writes to the folder itself. Each row is on disk at once:
        # a run that is killed keeps them.
        return CSVLogger(self.folder.path, name="", version="", flush_logs_every_n_steps=1)

    def _default_callbacks(self, config: Namespace) -> list[Callback]:
        callbacks: list[Callback] = []
        if config.enable_progress_bar is not False and not config.barebones:
            callbacks.append(Progress())
        if self._keeps_run:
            callbacks.append(RunReport(str(self.folder.path)))
            if config.enable_checkpointing is not False and not config.barebones:
                callbacks.append(
                    ModelCheckpoint(
                        dirpath=self.folder.checkpoints,
                        filename="best",
                        monitor="val_accuracy",
                        mode="max",
                    )
                )
                # A second one, as `save_last` would only save where the best one does.
                callbacks.append(
                    ModelCheckpoint(
                        dirpath=self.folder.checkpoints,
                        filename="last",
                        enable_version_counter=False,
                    )
                )
        return callbacks

    def _class_options(self) -> dict[str, Any]:
        """Annotations of the options that take a class, for the nearest names."""
        options: dict[str, Any] = {
            "data": L.LightningDataModule,
            "trainer.callbacks": Callback,
            "trainer.logger": Logger,
        }
        for group, cls in (("model", self.model_class), ("data", self.default_datamodule)):
            hints = get_type_hints(cls.__init__)  # type: ignore[misc]
            options.update({f"{group}.{name}": hint for name, hint in hints.items()})
        return options


def _listed(callbacks: Any) -> list[Callback]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list) else [callbacks]


def run(
    model_class: type[L.LightningModule] | None = None, args: list[str] | None = None
) -> ZolitCLI:
    """Parse, run, and hand back the finished command; errors are raised."""
    from zolit.datamodules import PromptDataModule

    if model_class is None:
        from zolit.module import ZeroOrderModule

        model_class = ZeroOrderModule
    return ZolitCLI(model_class, PromptDataModule, args)


def main(args: list[str] | None = None, model_class: type[L.LightningModule] | None = None) -> None:
    """The console script ``zolit``.

    Exits with 2 and one sentence on stderr where the user can mend it, with 130 after Ctrl-C.
    Anything else is a fault of zolit and keeps its traceback.

    Args:
        args: command-line arguments, by default those of the process.
        model_class: another module than ``ZeroOrderModule``.
    """
    quiet_libraries()
    # A user's own strategies stand beside the configuration. Last, so that they shadow nothing.
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        run(model_class, args)
    except UserError as error:
        _refuse(str(error))
    except MisconfigurationException as error:
        _refuse(f"trainer: {error}")
    except KeyboardInterrupt:
        print("zolit: interrupted", file=sys.stderr)
        sys.exit(130)


def _refuse(sentence: str) -> NoReturn:
    print(f"zolit: error: {' '.join(sentence.split())}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
