"""The points of a sweep as commands ``zolit fit``: checked, run, taken up again, the best kept."""

import gc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import yaml

from zolit.commands.classes import class_options
from zolit.commands.console import as_console_script
from zolit.commands.grid_keys import known_options, options_of
from zolit.commands.parser import ZolitCLI, run
from zolit.errors import UserError, tell
from zolit.files import write_text
from zolit.runs.folder import RunFolder
from zolit.runs.recorded_paths import absolute_option, text_with_absolute_paths
from zolit.sweeps.grid import Point
from zolit.sweeps.kept import Kept, begin
from zolit.sweeps.modules import judge_of, steps_between
from zolit.sweeps.options import SweepOptions
from zolit.sweeps.sweep import Results, sweep
from zolit.sweeps.table import markdown

Model = type[L.LightningModule] | None


class PointCLI(ZolitCLI):
    """A ``zolit fit`` whose parts are made, and which waits for `start`."""

    def fit(
        self, model: L.LightningModule, datamodule: L.LightningDataModule, **kwargs: Any
    ) -> None:
        """Wait."""
        self._kwargs = kwargs

    def start(self) -> Mapping[str, Any]:
        """Make the run; what came of it, as in summary.json."""
        return self.make_run(self.model, self.datamodule, **self._kwargs)


def begin_sweep(
    folder: Path,
    points: Sequence[Point],
    keys: Sequence[str],
    options: SweepOptions,
    recipe: Sequence[str],
    model_class: Model = None,
) -> None:
    """Check a new sweep and every point of it, and make its folder.

    Args:
        folder: new or empty.
        points: of the grid.
        keys: of the grid.
        options: how it spends its steps.
        recipe: options of ``zolit fit``.
        model_class: another module than ``ZeroOrderModule``.

    Raises:
        UserError: whatever the user can mend.
    """
    with as_console_script():
        base = _base(recipe, folder, model_class)
        _check_recipe(base)
        classes = class_options(type(base.model), type(base.datamodule))
        known = known_options(base.given, base.known_options(), classes)
        names = {key: options_of(key, known) for key in keys}
        for point in points:  # what is wrong with one is told before any has run
            _base([*recipe, *_point_args(names, point)], folder, model_class)
    files, args = portable(recipe)
    begin(folder, points, options, files, args=args, keys=names)


def go_on(folder: Path, model_class: Model = None) -> None:
    """Run what is left of a sweep, and print what came of it.

    Args:
        folder: of the sweep.
        model_class: another module than ``ZeroOrderModule``.

    Raises:
        UserError: whatever the user can mend.
    """
    kept = Kept(folder)
    try:
        with as_console_script():
            base = _base(_recipe_args(kept), folder, model_class)
            found = _run(kept, base, model_class)
            best = folder / "best.yaml"
            write_text(best, best_recipe(found, base))
        print(f"\n{markdown(found)}\nthe best: {found.best.point.told()}")
        print(f"zolit fit --config {best}")
    except (SystemExit, KeyboardInterrupt):
        tell(f"the sweep goes on with: zolit sweep --resume {folder}")
        raise
    finally:
        kept.release()


def _check_recipe(base: PointCLI) -> None:
    """Refuse a recipe whose runs cannot be compared or taken up again."""
    config = base.config.fit
    if base.trainer.max_steps < 1:
        raise UserError(
            f"trainer.max_steps: got {base.trainer.max_steps}, expected the steps of a point that "
            "is not stopped; set it in the recipe, or as --trainer.max_steps"
        )
    if not config.run.journal or config.trainer.fast_dev_run:
        raise UserError(
            "sweep: got run.journal: false or trainer.fast_dev_run, with which no run can be taken "
            "up again; leave it out"
        )
    if config.find_lr:
        raise UserError(
            "find_lr: goes with one run of zolit fit; leave it out, and name the rates in --grid"
        )
    if base.trainer.limit_val_batches == 0:
        raise UserError(
            "trainer.limit_val_batches: got 0, but points are compared by their validations; leave "
            "it out"
        )


def _run(kept: Kept, base: PointCLI, model_class: Model) -> Results:
    judge = judge_of(base.model, base.config.fit.run.best_by)
    args, keys = _recipe_args(kept), kept.content["keys"]

    def bring(point: Point, path: Path, steps: int) -> Mapping[str, Any]:
        to = ["--trainer.max_steps", str(steps)]
        if RunFolder(path).config.is_file():
            begun = ["--resume", str(path)]
            made = run(model_class, ["fit", *begun, *to], PointCLI)
        else:
            # A process that was killed before the run had written its recipe may have left files.
            new = ["--run.run_dir", str(path), "--run.overwrite", "true"]
            untested = ["--run.zero_shot", "false", "--run.test_after_fit", "false"]
            made = _made([*args, *_point_args(keys, point), *to, *new, *untested], model_class)
        assert isinstance(made, PointCLI)  # noqa: S101  (the class that was asked for)
        summary = made.start()
        del made
        gc.collect()  # the model, before the next one is loaded
        return summary

    each = steps_between(base.model, base.trainer.val_check_interval)
    return sweep(kept, base.trainer.max_steps, each, judge, bring, print)


def best_recipe(found: Results, base: PointCLI) -> str:
    """The recipe of the best point, as it would have been given to ``zolit fit``."""
    text = RunFolder(found.best.path).config.read_text(encoding="utf-8")
    recipe = yaml.safe_load(text)
    options = base.config.fit.run.as_dict()
    recipe["run"] = {**options, "run_dir": None, "overwrite": False}
    value = found.judge.figure(found.best.known or {"best": {}}, "best")
    return (
        f"# The best point of a sweep: {found.best.point.told()}; {found.judge.by} {value}.\n"
        "# zolit fit --config best.yaml --run.run_dir runs/best\n"
        f"{yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True)}"
    )


def _base(args: Sequence[str], folder: Path, model_class: Model) -> PointCLI:
    """A fit that is made in order to be looked at, with a place that no run has."""
    return _made([*args, "--run.run_dir", str(folder / "new")], model_class)


def _made(args: Sequence[str], model_class: Model) -> PointCLI:
    """A fit with these options whose parts are made; nothing is loaded."""
    made = run(model_class, ["fit", *args], PointCLI)
    assert isinstance(made, PointCLI)  # noqa: S101  (the class that was asked for)
    return made


def _point_args(keys: Mapping[str, Sequence[str]], point: Point) -> list[str]:
    pairs = ((name, value) for key, value in point.values.items() for name in keys[key])
    return [part for name, value in pairs for part in (f"--{name}", str(value))]


def _recipe_args(kept: Kept) -> list[str]:
    """The options of the recipe, with its files in the folder of the sweep."""
    found: list[str] = []
    for one in kept.content["args"]:
        file = kept.folder / one
        of_config = found[-1:] == ["--config"] and file.is_file()
        found.append(str(file) if of_config else one)
    return found


def portable(recipe: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """The options of a recipe so that a sweep goes on from any folder.

    Args:
        recipe: options of ``zolit fit``.

    Returns:
        Texts of its configuration files by the names that they get in the folder of the sweep, and
        the options, which name them so; relative paths of files are absolute in both.
    """
    files: dict[str, str] = {}
    args: list[str] = []
    position = 0
    while position < len(recipe):
        name, equals, value = recipe[position].partition("=")
        position += 1
        if not equals and position < len(recipe) and not recipe[position].startswith("--"):
            value, equals = recipe[position], " "
            position += 1
        if name in ("-c", "--config") and Path(value).is_file():
            kept = f"recipe-{len(files) + 1}.yaml"
            files[kept] = text_with_absolute_paths(Path(value).read_text(encoding="utf-8"))
            args += ["--config", kept]
        else:
            args += [name, absolute_option(name, value)] if equals else [name]
    return files, args
