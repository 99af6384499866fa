"""The commands that take the folder of a run. Their options are read before torch is loaded."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from zolit.commands import listing, predict
from zolit.commands.help import RUN_COMMANDS
from zolit.errors import UserError
from zolit.export.formats import FORMATS, GGUF_TYPES
from zolit.quiet import quiet_libraries


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{self.prog}: {message}; see {self.prog} --help")


def run(args: list[str]) -> None:
    """Run one of `RUN_COMMANDS`.

    Args:
        args: the command and its arguments.

    Raises:
        UserError: if an argument is wrong, or the run is not what its journal says.
    """
    command, *rest = args
    what = RUN_COMMANDS[command]
    parser = _Parser(
        f"zolit {command}", description=f"{what[0].upper()}{what[1:]}.", allow_abbrev=False
    )
    add_options, start = _COMMANDS[command]
    if command not in ("apply", "runs"):
        parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run")
    add_options(parser)
    given = parser.parse_args(rest)
    if command != "runs":  # it needs none of them
        quiet_libraries()
    start(given)


def _salvage_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--salvage", action="store_true", help="use the intact part of a damaged journal"
    )


def _replay_options(parser: argparse.ArgumentParser) -> None:
    _salvage_option(parser)
    parser.add_argument("--until", type=int, help="number of steps; by default all")
    parser.add_argument("--to", type=Path, required=True, help="folder for the checkpoint")


def _replay(given: argparse.Namespace) -> None:
    from zolit.runs.replay import replay

    replay(given.run, given.until, given.to, given.salvage)


def _verify_options(parser: argparse.ArgumentParser) -> None:
    _salvage_option(parser)
    parser.add_argument(
        "--records", action="store_true", help="check the file only, without the model"
    )


def _verify(given: argparse.Namespace) -> None:
    from zolit.runs.verify import verify

    verify(given.run, given.records, given.salvage)


def _export_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=FORMATS,
        default="safetensors",
        help="floats (safetensors), codes as torchao's tensors, a file for llama.cpp, or the "
        "run's adapter alone (peft); the others have an adapter merged",
    )
    parser.add_argument("--to", type=Path, required=True, help="folder for the model")
    parser.add_argument(
        "--ckpt_path", type=Path, help="by default the run's best checkpoint, else its last"
    )
    parser.add_argument(
        "--gguf-type",
        "--gguf_type",
        choices=GGUF_TYPES,
        help="block format of gguf; by default the one that holds each weight's codes exactly",
    )


def _export(given: argparse.Namespace) -> None:
    from zolit.export.run import export

    export(given.run, given.to, given.format, given.ckpt_path, given.gguf_type)


def _publish_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--to", type=Path, required=True, help="file to write")
    parser.add_argument(
        "--until", type=int, help="number of steps; by default those of the best checkpoint"
    )


def _publish(given: argparse.Namespace) -> None:
    from zolit.sharing.publish import publish

    publish(given.run, given.to, given.until)


def _apply_options(parser: argparse.ArgumentParser) -> None:
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


def _apply(given: argparse.Namespace) -> None:
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


_Options = Callable[[argparse.ArgumentParser], None]
_Start = Callable[[argparse.Namespace], None]

_COMMANDS: dict[str, tuple[_Options, _Start]] = {
    "runs": (listing.add_options, listing.start),
    "predict": (predict.add_options, predict.start),
    "replay": (_replay_options, _replay),
    "verify": (_verify_options, _verify),
    "export": (_export_options, _export),
    "publish": (_publish_options, _publish),
    "apply": (_apply_options, _apply),
}
"""What adds a command's options, and what runs it with them."""
