"""``zolit compare RUN...``: runs side by side, as a table and as pictures."""

import argparse
import math
import os
from pathlib import Path

from zolit.comparison.compare import compare
from zolit.errors import UserError
from zolit.extras import require_extra
from zolit.files import write_text

_DESCRIPTION = """Put finished runs side by side: a line for each recipe, with mean and standard
deviation over its seeds, steps, passes, wall-clock, peak memory and size of the checkpoint. The
table goes to the standard output in Markdown, and to the files that are named."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``zolit compare``."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="folder of a run, or of several below"
    )
    parser.add_argument(
        "--metric",
        help="figure to compare by, such as test_accuracy or val_loss; by default the one that the "
        "runs are judged by, of the test where there is one",
    )
    parser.add_argument(
        "--reach",
        type=float,
        help="value of the figure of validation; the table tells the time until it was reached",
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write what is printed")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table as CSV")
    parser.add_argument(
        "--png",
        type=Path,
        metavar="FILE",
        help="draw the figure against wall-clock, passes and peak memory",
    )


def start(given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: if an option is wrong, or the runs cannot be compared.
    """
    if given.reach is not None and not math.isfinite(given.reach):
        raise UserError(f"--reach: got {given.reach}, expected a number such as 0.75")
    for name in ("markdown", "csv", "png"):
        _check_file(name, getattr(given, name))
    if given.png is not None:
        require_extra("plots", "--png")
    found = compare(given.runs, given.metric, given.reach)
    text = found.markdown()
    print(text, end="")
    if given.markdown is not None:
        write_text(given.markdown, text)
    if given.csv is not None:
        write_text(given.csv, found.csv())
    if given.png is not None:
        found.draw(given.png)


def _check_file(name: str, file: Path | None) -> None:
    """Refuse a place where no file can be written, before anything is read."""
    if file is None:
        return
    if file.is_dir() or not file.parent.is_dir():
        raise UserError(
            f"--{name}: got {str(file)!r}, expected a file in an existing folder; "
            f"{str(file.absolute())!r} is none"
        )
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(
            f"--{name}: got {str(file)!r}, which cannot be written; name a file you may write"
        )
