"""``zolit verify``: whether a journal and the weights that it makes are those of the run."""

from pathlib import Path

from zolit.commands.replay import journal_of, refuse_difference
from zolit.recipes.parts import module_of
from zolit.runs.folder import RunFolder
from zolit.runs.journal.format import Weights
from zolit.runs.rebuild import load_start


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
    contents, header = journal_of(folder, salvage)
    marks = [record for record in contents.records if isinstance(record, Weights)]
    print(f"{folder.journal}: {len(contents.records)} records, {contents.end} steps, intact")
    if not records_only:
        module = module_of(header.config)
        made = load_start(module, header, str(run))
        print(f"start weights: {len(header.weights)} tensors as recorded")
        refuse_difference(made.run(contents.records, contents.end), run)
        steps = ", ".join(str(mark.step) for mark in marks) or "none were recorded"
        print(f"weights as recorded after steps: {steps}")
    if not (marks and marks[-1].final and marks[-1].step == contents.end):
        print("the run has not ended: there is no digest of its final weights")
