"""The commands that read a recipe, such as ``zolit fit`` and ``zolit saliency``."""

import inspect
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import lightning as L
from jsonargparse import ArgumentError, Namespace
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from rich.console import Console

from zolit.callbacks.defaults import TRAINER_DEFAULTS
from zolit.callbacks.judged import evaluation_of
from zolit.callbacks.trainer import make_trainer
from zolit.commands.checks import check_options, module_of_command, settle_files
from zolit.commands.classes import class_options
from zolit.commands.estimate import Trainer
from zolit.commands.explain import explain, explain_unmade
from zolit.commands.find_lr import add_find_lr, check_find_lr, tell_rates, use_rates
from zolit.commands.given import read_given, with_recipe
from zolit.commands.model import RecipeParser, add_class_path
from zolit.commands.option_help import HelpAll, short_help
from zolit.commands.predict import show
from zolit.commands.tables import figures_table, predictions_csv, pruned_table, result_table
from zolit.errors import UserError, tell, user_error_behind
from zolit.recipes.guard import check_parts, confine_parser
from zolit.runs.fit import fit, said_of_finished
from zolit.runs.folder import RunFolder, RunOptions
from zolit.runs.parts import check_given
from zolit.runs.prune import prune
from zolit.runs.recorded_paths import text_with_absolute_paths
from zolit.training.first_order import FirstOrderModule
from zolit.training.zero_order import ZeroOrderModule


class ZolitCLI(LightningCLI):
    """LightningCLI that keeps each run in a folder of its own.

    Nothing is written before the configuration has been read, every part of it made, the model
    loaded and the data prepared.

    Args:
        model_class: the LightningModule whose arguments form the group ``model``, where the
            configuration names none by ``model.class_path``.
        default_datamodule: used where the configuration names no data module.
        args: command-line arguments, by default those of the process.

    Raises:
        UserError: whatever the user can mend.
    """

    trainer: Trainer

    def __init__(
        self,
        model_class: type[L.LightningModule],
        default_datamodule: type[L.LightningDataModule],
        args: list[str] | None = None,
    ) -> None:
        confine_parser()
        self.default_datamodule = default_datamodule
        written = with_recipe(sys.argv[1:] if args is None else args)
        self.given = read_given(written)
        named = self.given.value("model.class_path")
        model_class = module_of_command(written[0], named, model_class)
        self._tunes = issubclass(model_class, ZeroOrderModule | FirstOrderModule)
        strict = {"exit_on_error": False, "allow_abbrev": False}
        super().__init__(
            model_class,
            L.LightningDataModule,
            subclass_mode_data=True,
            parser_class=RecipeParser,
            save_config_callback=None,
            trainer_class=Trainer,
            trainer_defaults=dict(TRAINER_DEFAULTS),
            seed_everything_default=False,
            auto_configure_optimizers=False,
            parser_kwargs={
                "prog": "zolit",
                **strict,
                **{command: dict(strict) for command in self.subcommands()},
            },
            args=written,
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        known = {"model", "datamodule", "options"}
        own = dict.fromkeys(("estimate", "saliency", "prune"), known)
        return {**LightningCLI.subcommands(), **own}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        model_class: Any = self._model_class
        add_class_path(parser, model_class)
        parser.add_class_arguments(RunOptions, "run")
        parser.add_argument(
            "--resume", type=str | None, default=None, help="Folder of a run to go on with (fit)."
        )
        add_find_lr(parser)
        name = f"{self.default_datamodule.__module__}.{self.default_datamodule.__qualname__}"
        parser.set_defaults({"data": {"class_path": name}})
        parser.add_argument("--help.all", action=HelpAll)
        # Any data module with an argument `source` is told which model reads its text.
        parser.link_arguments("model.source", "data.init_args.source")

    def setup_parser(self, *args: Any) -> None:
        super().setup_parser(*args)
        model_class: Any = self._model_class
        parsers: dict[str, Any] = self._subcommand_parsers
        for command, parser in parsers.items():
            parser.short_help = partial(self._short_help, command, parser, model_class)

    def _short_help(
        self, command: str, parser: LightningArgumentParser, model: type[L.LightningModule]
    ) -> str:
        classes = class_options(model, self.default_datamodule)
        return short_help(command, parser, self.default_datamodule, classes)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        try:
            super().parse_arguments(parser, args)
        except RecursionError as error:
            raise UserError("the options are nested too deeply; expected groups of them") from error
        except UnicodeDecodeError as error:
            raise UserError(
                f"a configuration file is not UTF-8 ({error.reason}); save it as UTF-8"
            ) from error
        except ArgumentError as error:
            if (said := user_error_behind(error)) is not None:
                raise said from error
            message = getattr(error, "message", None) or str(error)
            model_class: Any = self.model_class
            classes = class_options(model_class, self.default_datamodule)
            known = self.known_options()
            raise UserError(explain(message, self.given, known, classes)) from error
        self.command = str(self.config.subcommand)
        config = self.config[self.command]
        settle_files(config, self.command, self.given)

    def known_options(self) -> list[str]:
        """Dotted names of the options that the parser knows, without those of classes."""
        parsers: dict[str, Any] = self._subcommand_parsers
        return list(next(iter(parsers.values())).get_defaults().keys())

    def _parse_ckpt_path(self) -> None:
        """The configuration says what the model is; a checkpoint does not overrule it."""

    def before_instantiate_classes(self) -> None:
        config = self.config[self.command]
        model_class: Any = self.model_class
        defaults = inspect.signature(model_class).parameters.values()
        check_parts(config, [one.default for one in defaults])
        check_find_lr(config, self.command, model_class)
        self._optimizer = check_options(config, model_class) if self._tunes else None
        self.folder = RunFolder(config.run.run_dir, config.run.overwrite)
        keeps = not config.trainer.fast_dev_run and config.find_lr != "tell"
        self._keeps_run = self.command == "prune" or (self.command == "fit" and keeps)

    def instantiate_classes(self) -> None:
        options = self.config[self.command].model
        chosen = options.pop("class_path")  # no argument of the class
        try:
            super().instantiate_classes()
        except ValueError as error:
            # Where null is allowed as well, jsonargparse wraps what a class raised.
            if (said := user_error_behind(error)) is not None:
                raise said from error
            if (reason := explain_unmade(error, self.given)) is not None:
                raise UserError(reason) from error
            raise
        finally:
            options.class_path = chosen

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        config: Namespace = self.config_init[self.command]
        folder = self.folder if self._keeps_run else None
        if isinstance(self.model, ZeroOrderModule) and self._optimizer is not None:
            self.model.check_optimizer(self._optimizer)
        if config.resume is None and self._tunes:
            check_given(self.model)
        if folder is not None:
            # Only now: whatever is wrong with the recipe itself is told first.
            if config.resume is None:
                folder.check()
            else:
                folder.check_resumable()
        given = {**vars(config.trainer), **kwargs}
        fits = self.command in ("fit", "prune")
        return make_trainer(given, self.model, folder, config.run, fits, Trainer)

    def fit(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, **kwargs: Any
    ) -> None:
        """Zero-shot figure, fit, figure of the best checkpoint, report; or rates alone."""
        if self.config.fit.find_lr == "tell":
            tell_rates(self.trainer, model, datamodule)
            return
        if not self._keeps_run:
            self.trainer.fit(model, datamodule=datamodule, **kwargs)
            return
        resume = self.config.fit.resume is not None
        if resume and (said := said_of_finished(model, self.folder, self._recipe({}))) is not None:
            print(said)
            sys.exit(0)
        summary = self.make_run(model, datamodule, **kwargs)
        if summary and self.trainer.is_global_zero:
            Console().print(result_table(summary, str(self.folder.path)))

    def make_run(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, **kwargs: Any
    ) -> dict[str, Any]:
        """Make the run, or go on with it; what came of it, as in summary.json."""
        return fit(
            self.trainer,
            model,
            datamodule,
            self.folder,
            self.config_init[self.command].run,
            self._recipe,
            self.config.fit.resume is not None,
            self.given.options,
            loaded=partial(use_rates, self.trainer, model, datamodule, self.config.fit)
            if self.config.fit.find_lr
            else None,
            **kwargs,
        )

    def validate(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, **kwargs: Any
    ) -> None:
        """Figures of the validation rows."""
        self._measure(self.trainer.validate, model, datamodule, **kwargs)

    def test(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, **kwargs: Any
    ) -> None:
        """Figures of the test rows."""
        self._measure(self.trainer.test, model, datamodule, **kwargs)

    def _measure(
        self, evaluate: Callable[..., Any], model: Any, datamodule: Any, **kwargs: Any
    ) -> None:
        shows = kwargs.pop("verbose", True)
        evaluate(model, datamodule=datamodule, verbose=False, **kwargs)
        if shows and self.trainer.is_global_zero:
            figures = {name: float(one) for name, one in self.trainer.callback_metrics.items()}
            Console().print(figures_table(figures, kwargs.get("ckpt_path") or "the model untuned"))

    def predict(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, **kwargs: Any
    ) -> None:
        """Predictions for the test rows, as CSV on the standard output where they are columns."""
        if (evaluation := evaluation_of(model)) is not None:
            evaluation.check_predicts()
        batches: Any = self.trainer.predict(model, datamodule=datamodule, **kwargs) or []
        tabular = all(isinstance(batch, dict) for batch in batches)
        if not (batches and tabular and self.trainer.is_global_zero):
            return
        rows = getattr(datamodule, "predicted_rows", None)
        made = sum(len(next(iter(batch.values()))) for batch in batches)
        if rows is not None and made < len(rows):
            tell(f"predict: the trainer's limits leave {len(rows) - made} rows unanswered")
            rows = rows[:made]
        answers = getattr(datamodule, "answers", None)
        show(predictions_csv(batches, rows, getattr(datamodule, "labels", answers), answers))

    def estimate(self, model: Any, datamodule: L.LightningDataModule, **kwargs: Any) -> None:
        """The memory that ``fit`` would need with the same options."""
        options: RunOptions = self.config_init[self.command].run
        self.trainer.estimate(model, datamodule, options=options, **kwargs)

    def saliency(self, model: Any, datamodule: L.LightningDataModule, **kwargs: Any) -> None:
        """Scores of the model's weights, in a file."""
        config: Namespace = self.config_init[self.command]
        self.trainer.saliency(model, datamodule, config.to, config.saliency)

    def prune(self, model: Any, datamodule: L.LightningDataModule, **kwargs: Any) -> None:
        """Prune the model of the recipe, block by block."""
        config: Namespace = self.config_init[self.command]
        how = config.run, self._recipe, config.resume is not None
        summary = prune(self.trainer, model, datamodule, self.folder, *how)
        Console().print(pruned_table(summary, str(self.folder.path)))

    def _recipe(self, settled: Mapping[str, Any]) -> str:
        """The configuration as YAML, with numbers that the module chose once it was loaded."""
        config = self.config[self.command].clone()
        config.resume = config.find_lr = None
        if self._model_class is ZeroOrderModule:
            del config.model["class_path"]  # as in every recipe of before there was a choice
        for key, value in settled.items():
            if config.get(key, value) is None:
                config[key] = value  # a number, so that the run can be made again
        return text_with_absolute_paths(
            str(self._parser(self.command).dump(config, skip_none=False))
        )


def run(
    model_class: type[L.LightningModule] | None = None,
    args: list[str] | None = None,
    cli: type[ZolitCLI] = ZolitCLI,
) -> ZolitCLI:
    """Parse, run, and hand back the finished command; errors are raised."""
    from zolit.datamodules import PromptDataModule

    return cli(model_class or ZeroOrderModule, PromptDataModule, args)
