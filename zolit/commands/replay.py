"""``zolit replay``: the weights of any step of a run."""

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``zolit replay``, but for the run."""
    add_salvage(parser)
    parser.add_argument("--until", type=int, help="number of steps; by default all")
    parser.add_argument("--to", type=Path, required=True, help="folder for the checkpoint")


def add_salvage(parser: argparse.ArgumentParser) -> None:
    """The option that takes the intact part of a journal."""
    parser.add_argument(
        "--salvage", action="store_true", help="use the intact part of a damaged journal"
    )


def start(given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: if the run has no such step, or its weights are not found again.
    """
    from zolit.runs.replay import replay

    replay(given.run, given.until, given.to, given.salvage)
