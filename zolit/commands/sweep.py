"""``zolit sweep``: a small grid of options of a recipe, judged on its validation rows."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from zolit.commands.early import refuse_early
from zolit.commands.given import Given
from zolit.commands.on_runs import Parser
from zolit.errors import UserError
from zolit.sweeps.grid import points_of, read_grid
from zolit.sweeps.options import SweepOptions
from zolit.threads import share_cores

if TYPE_CHECKING:
    import lightning as L

_DESCRIPTION = """Run a recipe with every combination of some options, and stop hopeless ones early.
Points are judged by validation rows; test rows are not measured. Every option of zolit fit may
follow. Each point is an ordinary run below the folder of the sweep, which ends with best.yaml."""


def run(args: list[str], model_class: "type[L.LightningModule] | None" = None) -> None:
    """Run the command; what can be refused without a library is refused before one is loaded.

    Args:
        args: what follows ``sweep``.
        model_class: another module than ``ZeroOrderModule``.

    Raises:
        UserError: whatever the user can mend.
    """
    given, recipe = _parser().parse_known_args(args)
    if given.resume is not None:
        own = {name for name, value in vars(given).items() if value is not None} - {"resume"}
        if others := [*recipe, *sorted(own)]:
            raise UserError(
                f"resume: got {str(given.resume)!r} beside other options ({others[0]}); a sweep "
                "goes on as it began: leave them out"
            )
        share_cores()
        from zolit.commands.points import go_on

        go_on(given.resume, model_class)
        return
    if given.grid is None:
        raise UserError(
            "--grid: is missing, expected KEY=VALUE,VALUE,..., such as lr=0.01,0.1,eps=0.001"
        )
    names = ("stopping", "reduction", "first_steps")
    chosen = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    options = SweepOptions(**chosen)
    grid = read_grid(given.grid)
    points = points_of(grid)
    refuse_early(["fit", *recipe], model_class is None)
    folder = given.run_dir or Path(f"{Given(recipe).run_dir('recipe')}-sweep")
    share_cores()
    from zolit.commands.points import begin_sweep, go_on

    begin_sweep(folder, points, list(grid), options, recipe, model_class)
    go_on(folder, model_class)


def _parser() -> argparse.ArgumentParser:
    parser = Parser("zolit sweep", description=_DESCRIPTION, allow_abbrev=False)
    parser.add_argument(
        "--grid",
        metavar="KEY=V,V,...",
        help="values of options, such as lr=0.01,0.1,eps=0.001: by their last part, or by their "
        "whole name, model.optimizer.lr=0.01,0.1; seed is that of the run and of its rows",
    )
    parser.add_argument(
        "--run.run_dir", dest="run_dir", type=Path, help="folder of the sweep, new or empty"
    )
    parser.add_argument("--resume", type=Path, metavar="SWEEP", help="go on with a sweep")
    parser.add_argument(
        "--sweep.stopping",
        dest="stopping",
        choices=("halving", "none"),
        help="halving, or none to give every point all steps (halving)",
    )
    parser.add_argument(
        "--sweep.reduction",
        dest="reduction",
        type=int,
        help="of the points that are left, one in so many goes on at each stop (3)",
    )
    parser.add_argument(
        "--sweep.first_steps",
        dest="first_steps",
        type=int,
        help="steps before the first stop; by default so many that one point is left at the end",
    )
    return parser
