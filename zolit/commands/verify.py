"""``zolit verify``: whether a journal and the weights that it makes are those of the run."""

import argparse

from zolit.commands.replay import add_salvage


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``zolit verify``, but for the run."""
    add_salvage(parser)
    parser.add_argument(
        "--records", action="store_true", help="check the file only, without the model"
    )


def start(given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: naming the first place that fails.
    """
    from zolit.runs.verify import verify

    verify(given.run, given.records, given.salvage)
