"""Rebuilds the weights of any step of a run from its journal."""

import sys
import time
from pathlib import Path
from typing import Any

import lightning as L

from zolit.caller import by_caller
from zolit.checkpoints.file import FileCheckpoints
from zolit.errors import UserError
from zolit.files import write_text
from zolit.runs.finished import module_of_run
from zolit.runs.folder import RunFolder
from zolit.runs.journal.reader import Contents
from zolit.runs.journal.records import Header
from zolit.runs.journal.replay import Difference
from zolit.runs.rebuild import checkpoint, load_start, newest_base, read_run


def replay(run: Path, until: int | None, to: Path, salvage: bool, module: Any = None) -> Path:
    """Write the checkpoint of a step, and the configuration beside it if the run has one.

    Args:
        run: folder of the run.
        until: number of steps; None for all.
        to: folder, made if it does not exist.
        salvage: use the intact part of a damaged journal.
        module: made as for the run, for a run without a configuration; its weights are moved.

    Returns:
        The file.

    Raises:
        UserError: if there is no such step, or the weights differ from those of the run.
    """
    folder = RunFolder(run)
    contents, header = journal_of(folder, salvage)
    until = contents.end if until is None else until
    if not header.step < until <= contents.end:
        raise UserError(
            f"{by_caller('--until', 'until')}: got {until}, the journal of {str(run)!r} holds "
            f"steps {header.step + 1} to {contents.end}"
        )
    call = f"zolit.replay({str(run)!r}, {str(to)!r}, module=module)"
    module = module_of_run(header.config, run, call, module)
    started = time.perf_counter()
    made = load_start(module, header, str(run))
    base = newest_base(folder, contents, until, _say)
    if base is not None:
        made.restore(base.content, rates=bool(header.checkpoint))
        made.release_errors()
    first = made.steps
    refuse_difference(made.run(contents.records, until), run)
    seconds = time.perf_counter() - started
    last = contents.steps[until - header.step - 1]
    trainer = L.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    content = checkpoint(made, trainer, last, bool(header.data), base)
    file = to / f"step={until}.ckpt"
    FileCheckpoints().save_checkpoint(content, file)
    use = f"zolit.load({str(run)!r}, {str(file)!r}, module=module)"
    if header.config:
        write_text(to / "config.yaml", header.config)
        use = by_caller(
            f"zolit test --config {to / 'config.yaml'} --ckpt_path {file}",
            f"zolit.load({str(run)!r}, {str(file)!r})",
        )
    print(
        f"{file}: step {until}, {until - first} of them replayed in {seconds:.1f} s; use it with "
        f"{use}"
    )
    return file


def journal_of(folder: RunFolder, salvage: bool) -> tuple[Contents, Header]:
    """The journal of a run that has made a step, and its header.

    Raises:
        UserError: if there is none, or it is damaged and ``salvage`` is off.
    """
    contents = read_run(folder, salvage)
    if contents.header is None:
        raise UserError(f"{str(folder.path)!r}: the run ended before its first step")
    return contents, contents.header


def refuse_difference(difference: Difference | None, run: Path) -> None:
    """Refuse weights that are not those of the run.

    Raises:
        UserError: naming the step at which they part.
    """
    if difference is not None:
        raise UserError(
            f"{run}: {difference}; a tampered record, or another device, kernel or library version "
            "than the run had"
        )


def _say(sentence: str) -> None:
    print(f"zolit: {sentence}", file=sys.stderr)
