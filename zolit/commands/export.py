"""``zolit export``: the model of a run as a folder for other tools."""

import argparse
from pathlib import Path

from zolit.export.formats import FORMATS, GGUF_TYPES, check_format


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of ``zolit export``, but for the run."""
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


def start(given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: if the run or the folder cannot be used, or the model has no such form.
    """
    check_format(given.format, given.gguf_type)

    from zolit.export.run import export

    export(given.run, given.to, given.format, given.ckpt_path, given.gguf_type)
