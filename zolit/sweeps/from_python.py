"""Sweeps from Python: a function makes the parts of each point."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L

from zolit.callbacks.trainer import make_trainer
from zolit.errors import UserError
from zolit.quiet import quiet_about_the_folder
from zolit.runs.fit import fit
from zolit.runs.folder import RunFolder, RunOptions
from zolit.sweeps.grid import Point, points_of
from zolit.sweeps.kept import Kept, begin
from zolit.sweeps.modules import judge_of, steps_between
from zolit.sweeps.options import SweepOptions
from zolit.sweeps.sweep import Results
from zolit.sweeps.sweep import sweep as swept


def sweep(
    make: Callable[..., tuple[L.LightningModule, L.LightningDataModule]],
    grid: Mapping[str, Sequence[Any]],
    run_dir: str | Path,
    max_steps: int,
    resume: bool = False,
    options: SweepOptions | None = None,
    best_by: str | None = None,
    **trainer: Any,
) -> Results:
    """Try combinations of some values, stop hopeless ones early: as ``zolit sweep`` does.

    Points are judged by the validation rows; test rows are not measured.

    Args:
        make: makes module and data of a point; it gets a value for each key of the grid. It is
            called anew for every part of a run, and must make the same each time.
        grid: numbers, texts or truth values by key. Points that differ in the key ``seed`` alone
            are judged by their mean.
        run_dir: folder of the sweep, with the folder of each point's run below.
        max_steps: of a point that is not stopped.
        resume: go on with the sweep in that folder.
        options: which points are stopped early; by default successive halving.
        best_by: figure of validation that decides; by default as in a run.
        trainer: options of Lightning's trainer, such as ``val_check_interval``.

    Returns:
        What came of every point; ``best.point.values`` and ``best.path`` of the best.

    Raises:
        UserError: if an option is wrong, or no point is left.

    Example:
        >>> found = sweep(make, {"lr": [0.01, 0.1]}, "runs/sweep", 200)  # doctest: +SKIP
    """
    points, folder = points_of(grid), Path(run_dir)
    if not resume:
        begin(folder, points, options or SweepOptions(), {})
    kept = Kept(folder)
    try:
        if kept.points != points:
            raise UserError(f"grid: is not that of the sweep in {str(folder)!r}; give the same")

        def bring(point: Point, path: Path, steps: int) -> dict[str, Any]:
            module, data = make(**point.values)
            place = RunFolder(path, overwrite=True)
            frame = RunOptions(zero_shot=False, test_after_fit=False, best_by=best_by)
            given = {"max_epochs": -1, **trainer, "max_steps": steps}
            made = make_trainer(given, module, place, frame, fits=True)
            with quiet_about_the_folder():
                return fit(made, module, data, place, frame, resume=place.holds_run())

        module, _ = make(**points[0].values)
        each = steps_between(module, trainer.get("val_check_interval"))
        return swept(kept, max_steps, each, judge_of(module, best_by), bring)
    finally:
        kept.release()
