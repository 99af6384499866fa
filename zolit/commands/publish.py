"""``zolit publish``: a run as a small file for others who have its base model."""

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``zolit publish``, but for the run."""
    parser.add_argument("--to", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--until", type=int, help="number of steps; by default those of the best checkpoint"
    )


def start(given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: if the run cannot be published, or the file cannot be written.
    """
    from zolit.sharing.publish import publish

    publish(given.run, given.to, given.until)
