"""``zolit predict RUN``: the model of a run answers the rows of a file."""

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zolit.arguments import at_least
from zolit.errors import UserError, tell

FORMS = ("multirc", "record", "squad", "drop", "arc")
_CALLED = {
    "rows.path": "--rows",
    "rows.encoding": "--encoding",
    "rows.form": "--form",
    "rows.format": "--format",
    "rows.names": "--names",
    "rows.quotes": "--rows",
    "quotes: false": "--no-quotes",
    "truncate: true": "--truncate",
}
"""Options of the data module, and those of this command."""

FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "lines")

_DESCRIPTION = """Answer every row of a file with the model of a run. Writes CSV, one line for each
row of the file, in its order: the row's number (0 is the first), the label, the word that stands
for it, and the probability of each label. The file needs no labels, and the rows that the run was
trained on need not be there."""

_EPILOG = """zolit predict --config FILE --ckpt_path FILE answers the test rows of a recipe
instead; zolit predict --config FILE --help lists its options."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``zolit predict``; `on_runs` adds the run itself."""
    parser.description, parser.epilog = _DESCRIPTION, _EPILOG
    parser.add_argument(
        "--rows", type=Path, required=True, help="file of rows: csv, tsv, jsonl, json or parquet"
    )
    parser.add_argument(
        "--to", default="-", help="file for the answers; - for the standard output (default)"
    )
    parser.add_argument(
        "--ckpt_path", type=Path, help="by default the run's best checkpoint, else its last"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="of the file; by default as its name ends"
    )
    parser.add_argument(
        "--form",
        choices=FORMS,
        help="of a file that nests questions within passages, as BenchmarkRows reads it",
    )
    parser.add_argument("--encoding", help="of the file; by default utf-8")
    parser.add_argument(
        "--names",
        type=lambda text: text.split(","),
        help="column names of a csv or tsv file without a header line, with commas between",
    )
    parser.add_argument(
        "--no-quotes",
        dest="quotes",
        action="store_const",
        const=False,
        help="double quotes in a csv or tsv file are text like any other",
    )
    parser.add_argument(
        "--truncate", action="store_const", const=True, help="cut rows that are too long"
    )
    parser.add_argument("--batch_size", type=int, help="rows that the model reads at once")


def start(given: argparse.Namespace) -> None:
    """Run the command.

    Raises:
        UserError: if an argument is wrong, or the run or the rows cannot be used.
    """
    to = _checked_target(given.to, given.rows)
    if given.batch_size is not None:
        at_least("--batch_size", given.batch_size)
    text = predictions(given.run, given.rows, given.ckpt_path, vars(given))
    if to is None:
        show(text)
        return
    from zolit.files import write_text

    write_text(to, text)


def show(text: str) -> None:
    """Write to the standard output, whose reader may stop early as ``head`` does."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # Otherwise Python would try to write the rest once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def predictions(run: Path, rows: Path, ckpt_path: Path | None, options: dict[str, Any]) -> str:
    """CSV of the answers to a file's rows.

    Args:
        run: folder of the run.
        rows: the file.
        ckpt_path: of a checkpoint of the run; None for its best, else its last.
        options: ``form``, ``format``, ``encoding``, ``names`` and ``quotes`` of the file (None: as
            found); ``truncate`` and ``batch_size`` (None: the run's).

    Raises:
        UserError: if the run or the rows cannot be used.
    """
    # Not at the top: a wrong argument should be refused before these slow imports.
    from zolit.callbacks.trainer import make_trainer
    from zolit.commands.tables import predictions_csv
    from zolit.datamodules import TableRows
    from zolit.recipes.guard import load_yaml
    from zolit.recipes.parts import data_of
    from zolit.runs.finished import checkpoint_file, load_checkpoint, module_of_run, recipe_text
    from zolit.runs.folder import RunFolder

    folder = RunFolder(run)
    file = checkpoint_file(folder, ckpt_path, "predict")
    text = recipe_text(folder)
    call = f"lightning.Trainer().predict(zolit.load({str(run)!r}, module=module), loader)"
    module = module_of_run(text, run, call)
    config = load_yaml(text, str(folder.config))
    data = data_of(text, _changes(rows, options))
    with _by_these_options():
        data.predict_on(TableRows(_read(config, rows, options)))
        data.setup("predict")
    module.evaluation.check_predicts()
    step = load_checkpoint(module, file)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    machine = config.get("trainer") or {}
    given = {name: machine[name] for name in ("accelerator", "precision") if machine.get(name)}
    trainer = make_trainer({**given, **quiet}, module)
    batches: Any = trainer.predict(module, dataloaders=data.predict_dataloader())
    text = predictions_csv(batches, data.predicted_rows, data.labels, data.answers)
    tell(f"{len(data.predicted_rows)} rows of {rows}, answered by {file} after step {step}")
    return text


@contextmanager
def _by_these_options() -> Iterator[None]:
    """Call what a refusal of rows names by the options of this command."""
    try:
        yield
    except UserError as error:
        said = str(error)
        for name, option in _CALLED.items():
            said = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w.])", option, said)
        raise UserError(said) from error


def _checked_target(to: str, rows: Path) -> Path | None:
    """The file to write, None for the standard output.

    Raises:
        UserError: if it cannot be written, or is the file of rows.
    """
    if to == "-":
        return None
    file = Path(to)
    if file.suffix in (".tsv", ".jsonl", ".json", ".parquet"):
        raise UserError(f"--to: got {to!r}, but answers are written as CSV; name a .csv file")
    if file.is_dir() or not file.parent.is_dir():
        raise UserError(
            f"--to: got {to!r}, expected a file in an existing folder; {str(file.absolute())!r} "
            "is none"
        )
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise UserError(f"--to: got {to!r}, which cannot be written; name a file you may write")
    if file.exists() and rows.exists() and file.samefile(rows):
        raise UserError(f"--to: got {to!r}, which is the file of rows; name another file")
    return file


def _read(config: dict[str, Any], rows: Path, options: dict[str, Any]) -> Any:
    """The table of a file, its columns renamed as the run's own rows were."""
    from zolit.datamodules import BenchmarkRows, FileRows

    names = ("format", "encoding", "names", "quotes")
    reading = {name: options[name] for name in names if options.get(name) is not None}
    if (form := options.get("form")) is not None:
        if reading:
            raise UserError(
                f"--form: got {form} with --{next(iter(reading))}, which is for flat files; leave "
                "one out"
            )
        table = BenchmarkRows(str(rows), form).read()
    else:
        table = FileRows(str(rows), **reading).read()
    own = ((config.get("data") or {}).get("init_args") or {}).get("rows") or {}
    renamed = (own.get("init_args") or {}).get("rename") or {}
    there = {old: new for old, new in renamed.items() if old in table.columns}
    replaced = [new for old, new in there.items() if new in table.columns and new != old]
    return table.drop(columns=replaced).rename(columns=there)


def _changes(rows: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Arguments of the run's data module to replace, so that this file is read and not its rows."""
    own = {"class_path": "zolit.datamodules.FileRows", "init_args": {"path": str(rows)}}
    changes: dict[str, Any] = {"rows": own, "validation_rows": None, "test_rows": None}
    if options.get("truncate"):
        changes["truncate"] = True
    if options.get("batch_size") is not None:
        changes["eval_batch_size"] = options["batch_size"]
    return changes
