"""``zolit apply``: the weights of a published run, made again beside its base model."""

import argparse
from pathlib import Path

from zolit.errors import UserError


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``zolit apply``."""
    parser.add_argument("file", type=Path, metavar="FILE", help="that zolit publish wrote")
    parser.add_argument("--to", type=Path, required=True, help="folder for the run")
    parser.add_argument(
        "--model", help="the base model: hub name or folder; by default where the run had it from"
    )
    parser.add_argument("--gguf_file", help="name of a GGUF file within --model")
    parser.add_argument("--package", help="installed pip distribution that --model lies in")
    parser.add_argument("--revision", help="of a hub model")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="CLASS",
        help="a part of the recipe that is not zolit's, and that may be imported",
    )
    parser.add_argument(
        "--unverified",
        action="store_true",
        help="keep weights whose digest is not the published one",
    )


def start(given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: if an argument is wrong, or the file or the base model cannot be used.
    """
    if given.model is None and (given.gguf_file or given.package or given.revision):
        raise UserError("apply: --gguf_file, --package and --revision go with --model; add it")

    from zolit.models.source import ModelSource
    from zolit.sharing.publish import apply

    source = None
    if given.model is not None:
        source = ModelSource(
            given.model, gguf_file=given.gguf_file, package=given.package, revision=given.revision
        )
    apply(given.file, given.to, source, given.trust, given.unverified)
