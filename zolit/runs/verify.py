"""Whether a journal and the weights that it makes are those of the run."""

from pathlib import Path
from typing import Any

from zolit.caller import by_caller
from zolit.runs.finished import module_of_run
from zolit.runs.folder import RunFolder
from zolit.runs.journal.records import Weights
from zolit.runs.rebuild import load_start
from zolit.runs.replay import journal_of, refuse_difference


def verify(run: Path, records_only: bool, salvage: bool, module: Any = None) -> list[int]:
    """Check the journal's bytes, the start weights, and the weights at every digest.

    Args:
        run: folder of the run.
        records_only: check the bytes alone.
        salvage: check the intact part of a damaged journal.
        module: made as for the run, for a run without a configuration; its weights are moved.

    Returns:
        Numbers of steps after which the weights were found as recorded.

    Raises:
        UserError: naming the first place that fails.
    """
    folder = RunFolder(run)
    contents, header = journal_of(folder, salvage)
    if not records_only:
        alone = by_caller("--records", "records_only=True")
        call = f"zolit.verify({str(run)!r}, module=module); {alone} checks the file alone"
        module = module_of_run(header.config, run, call, module)
    marks = [record for record in contents.records if isinstance(record, Weights)]
    print(f"{folder.journal}: {len(contents.records)} records, {contents.end} steps, intact")
    checked: list[int] = []
    if not records_only:
        made = load_start(module, header, str(run))
        print(f"start weights: {len(header.weights)} tensors as recorded")
        refuse_difference(made.run(contents.records, contents.end), run)
        checked = list(dict.fromkeys(mark.step for mark in marks))
        steps = ", ".join(map(str, checked)) or "none were recorded"
        print(f"weights as recorded after steps: {steps}")
    if not (marks and marks[-1].final and marks[-1].step == contents.end):
        print("the run has not ended: there is no digest of its final weights")
    return checked
