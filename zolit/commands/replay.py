"""``zolit replay`` and ``zolit verify``."""

import sys
import time
from pathlib import Path

import lightning as L

from zolit.checkpoints.file import FileCheckpoints
from zolit.errors import UserError
from zolit.files import write_text
from zolit.recipes.parts import module_of
from zolit.runs.folder import RunFolder
from zolit.runs.journal.format import Header, Weights
from zolit.runs.journal.reader import Contents
from zolit.runs.journal.replay import Difference
from zolit.runs.rebuild import checkpoint, load_start, newest_base, read_run


def replay(run: Path, until: int | None, to: Path, salvage: bool) -> None:
    """Write the checkpoint of a step, and the configuration beside it.

    Args:
        run: folder of the run.
        until: steps; None for all.
        to: folder, made if it does not exist.
        salvage: use the intact part of a damaged journal.

    Raises:
        UserError: if there is no such step, or the weights differ from those of the run.
    """
    folder = RunFolder(run)
    contents, header = _read(folder, salvage)
    until = contents.end if until is None else until
    if not header.step < until <= contents.end:
        raise UserError(
            f"--until: got {until}, the journal of {str(run)!r} holds steps {header.step + 1} to "
            f"{contents.end}"
        )
    module = module_of(header.config)
    started = time.perf_counter()
    made = load_start(module, header, str(run))
    base = newest_base(folder, contents, until, _say)
    if base is not None:
        made.restore(base.content, rates=bool(header.checkpoint))
        made.release_errors()
    first = made.steps
    _agree(made.run(contents.records, until), run)
    seconds = time.perf_counter() - started
    last = contents.steps[until - header.step - 1]
    trainer = L.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    content = checkpoint(made, trainer, last, bool(header.data), base)
    file = to / f"step={until}.ckpt"
    FileCheckpoints().save_checkpoint(content, file)
    write_text(to / "config.yaml", header.config)
    print(
        f"{file}: step {until}, {until - first} of them replayed in {seconds:.1f} s; use it with "
        f"zolit test --config {to / 'config.yaml'} --ckpt_path {file}"
    )


def verify(run: Path, records_only: bool, salvage: bool) -> None:
    """Check the journal's bytes, the start weights, and the weights at every digest.

    Args:
        run: folder of the run.
        records_only: check the bytes alone.
        salvage: check the intact part of a damaged journal.

    Raises:
        UserError: naming the first place that fails.
    """
    folder = RunFolder(run)
    contents, header = _read(folder, salvage)
    marks = [record for record in contents.records if isinstance(record, Weights)]
    print(f"{folder.journal}: {len(contents.records)} records, {contents.end} steps, intact")
    if not records_only:
        module = module_of(header.config)
        made = load_start(module, header, str(run))
        print(f"start weights: {len(header.weights)} tensors as recorded")
        _agree(made.run(contents.records, contents.end), run)
        steps = ", ".join(str(mark.step) for mark in marks) or "none were recorded"
        print(f"weights as recorded after steps: {steps}")
    if not (marks and marks[-1].final and marks[-1].step == contents.end):
        print("the run has not ended: there is no digest of its final weights")


def _read(folder: RunFolder, salvage: bool) -> tuple[Contents, Header]:
    contents = read_run(folder, salvage)
    if contents.header is None:
        raise UserError(f"{str(folder.path)!r}: the run ended before its first step")
    return contents, contents.header


def _agree(difference: Difference | None, run: Path) -> None:
    if difference is not None:
        raise UserError(
            f"{run}: {difference}; a tampered record, or another device, kernel or library version "
            "than the run had"
        )


def _say(sentence: str) -> None:
    print(f"zolit: {sentence}", file=sys.stderr)
