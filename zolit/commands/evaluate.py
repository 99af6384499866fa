"""``zolit evaluate RUN``: the model of a run on tasks of lm-evaluation-harness."""

import argparse
from pathlib import Path

from zolit.errors import UserError, tell
from zolit.extras import require_extra

_DESCRIPTION = """Measure the model of a run on tasks of lm-evaluation-harness, on its stored
quantized weights. RUN may also be a YAML file whose group model names a model and a quantizer: then
the model is measured untuned. A task is known to the harness by name, or stands in a YAML file of
its own."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``zolit evaluate``; `on_runs` adds the run itself."""
    parser.description = _DESCRIPTION
    parser.add_argument(
        "--tasks",
        nargs="+",
        required=True,
        help="names of tasks or groups, such as piqa arc_easy, or YAML files of tasks",
    )
    parser.add_argument(
        "--include",
        type=Path,
        help="folder of further tasks; Python code that their YAML names is run",
    )
    parser.add_argument(
        "--num_fewshot",
        type=int,
        help="examples before each row; by default as each task says, mostly none",
    )
    parser.add_argument("--limit", type=int, help="first rows of each task; by default all")
    parser.add_argument(
        "--chat", action="store_true", help="put the rows into the model's chat template"
    )
    parser.add_argument(
        "--base", action="store_true", help="measure the model as the run started from it"
    )
    parser.add_argument(
        "--ckpt_path", type=Path, help="by default the run's best checkpoint, else its last"
    )
    parser.add_argument(
        "--batch_size", type=int, default=16, help="rows that the model reads at once (16)"
    )
    parser.add_argument(
        "--max_length", type=int, help="tokens that it reads at most; by default its context"
    )
    parser.add_argument("--to", type=Path, help="JSON file for the figures")


def start(given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: if an argument is wrong, a task is not known, or the run cannot be used.
    """
    require_extra("eval", "zolit evaluate")
    _check_target(given.to)
    if given.base and given.ckpt_path is not None:
        raise UserError(
            "--base: got --ckpt_path as well; the base has no checkpoint, leave one out"
        )
    from rich.console import Console

    from zolit.commands.tables import harness_table
    from zolit.files import write_text
    from zolit.harness.evaluate import evaluate_model, figures
    from zolit.harness.model import HarnessModel

    model = HarnessModel(
        given.run,
        checkpoint=given.ckpt_path,
        base=given.base,
        batch_size=given.batch_size,
        max_length=given.max_length,
    )
    names = [name for one in given.tasks for name in one.split(",") if name]
    results = evaluate_model(
        model, names, given.include, given.num_fewshot, given.limit, given.chat
    )
    Console().print(harness_table(figures(results)))
    tell(f"measured: {results['config']['weights']}")
    if given.to is not None:
        import json

        write_text(given.to, json.dumps(results, indent=1, sort_keys=True, default=str) + "\n")


def _check_target(to: Path | None) -> None:
    if to is not None and (to.is_dir() or not to.absolute().parent.is_dir()):
        raise UserError(f"--to: got {str(to)!r}, expected a file in an existing folder")
