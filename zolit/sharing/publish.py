"""Publishes a run as a small file, and rebuilds its weights from such a file."""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import lightning as L
import yaml

from zolit.checkpoints.file import FileCheckpoints, read_checkpoint
from zolit.checkpoints.tensors import weights_digest
from zolit.errors import UserError
from zolit.files import check_new_folder, new_folder
from zolit.models.source import ModelSource
from zolit.recipes.parts import module_of
from zolit.runs.finished import checkpoint_file, module_of_run
from zolit.runs.folder import RunFolder, summary_of
from zolit.runs.journal.reader import Contents, read_journal
from zolit.runs.journal.records import Header, Step, Weights
from zolit.runs.journal.replay import OtherStartError, Replay
from zolit.runs.journal.writer import JournalWriter
from zolit.runs.rebuild import checkpoint, load_start, read_run
from zolit.runs.recorded_paths import files_of_parts
from zolit.sharing.delta import VERSION, Delta, journal_bytes, read_delta, sha256, write_delta
from zolit.sharing.recipe import (
    public_recipe,
    public_source,
    read_file_name,
    read_recipe,
    read_source,
)
from zolit.strategies.mask.kept import KeptMask
from zolit.training.zero_order import ZeroOrderModule

_TOLD = ("zero_shot", "final", "peak_memory_mb", "step_ms_median", "versions")
"""Entries of summary.json that are published with a run."""


def publish(run: Path, to: Path, until: int | None = None) -> None:
    """Write a file from which others rebuild the run's weights with the same base model.

    The journal is replayed first, so the file is known to work on this machine.

    Args:
        run: folder of the run.
        to: file, which must not exist.
        until: number of steps; None for those of the best checkpoint, else of the last.

    Raises:
        UserError: if the run did not start from a model alone, or has no such step.
    """
    if to.exists():
        raise UserError(f"--to: there is a {str(to)!r} already; name another file")
    folder = RunFolder(run)
    contents = read_run(folder, False)
    header = contents.header
    if header is None:
        raise UserError(f"publish: {str(run)!r} ended before its first step")
    if header.checkpoint or header.step:
        raise UserError(
            f"publish: {str(run)!r} started from a checkpoint of another run, which others do not "
            "have; use zolit export"
        )
    call = f"zolit.export_model({str(run)!r}, to, module=module)"
    module = module_of_run(header.config, run, call)
    recipe = public_recipe(yaml.safe_load(header.config))
    public = replace(header, config=yaml.safe_dump(recipe, sort_keys=False), data={})
    if until is None:
        until = int(read_checkpoint(checkpoint_file(folder, None, "publish"))["global_step"])
    if not 0 < until <= contents.end:
        raise UserError(
            f"--until: got {until}, the journal of {str(run)!r} holds steps 1 to {contents.end}"
        )
    made = load_start(module, header, str(run))
    if (difference := made.run(contents.records, until)) is not None:
        raise UserError(f"publish: {run}: {difference}; see zolit verify {run}")
    digest = weights_digest(module.network)
    records = [
        one for one in contents.records if isinstance(one, Step | Weights) and one.step < until
    ]
    journal = journal_bytes(public, [*records, Weights(until, digest, final=True)])
    summary = {name: value for name, value in summary_of(folder).items() if name in _TOLD}
    source = public_source(module.source)
    mask = folder.mask.read_bytes() if folder.mask.is_file() else b""
    delta = Delta(VERSION, source, until, digest.hex(), summary, sha256(journal))
    write_delta(to, delta, journal, mask)
    print(
        f"{to}: {until} steps, {to.stat().st_size} bytes; others use it with zolit apply "
        f"{to.name} --model SOURCE --to DIR"
    )
    needed = {name: one for name, one in recipe["model"].items() if not (mask and name == "mask")}
    for name in files_of_parts(needed):
        print(
            f"they also need {name}, which is not in it: send it along, to lie in the folder where "
            "zolit apply runs"
        )


def apply(
    file: Path,
    to: Path,
    source: ModelSource | None = None,
    trusted: Sequence[str] = (),
    unverified: bool = False,
) -> None:
    """Rebuild the weights of a published run, as a run folder that ``export`` takes.

    Args:
        file: that `publish` wrote.
        to: folder that is new or empty.
        source: the base model; None for the one that the file names. If it has no ``gguf_file``,
            that of the run is used.
        trusted: classes of the recipe beside zolit's and torch's own that may be imported.
        unverified: keep weights that differ from the published ones.

    Raises:
        UserError: if the file is damaged, the model is another one, or the weights differ.
    """
    check_new_folder(to)
    delta, journal, mask = read_delta(file)
    contents, header = _journal(journal, delta, file)
    config = read_recipe(header.config, file, trusted)
    if source is None:
        source = read_source(delta.source, file)
    elif source.gguf_file is None:
        source = replace(source, gguf_file=read_file_name(delta.source, file))
    config["model"]["source"] = asdict(source)
    text = yaml.safe_dump(config, sort_keys=False)
    module = module_of(text)
    with tempfile.TemporaryDirectory() as scratch:
        choice = RunFolder(scratch).mask
        if mask:
            choice.write_bytes(mask)
            module.mask = KeptMask(choice, module.mask)
        made = _start(module, header, file)
    # Weights that differ before the end also differ at the end; `unverified` keeps them.
    made.run(contents.steps, delta.steps)
    verified = weights_digest(module.network).hex() == delta.digest
    if not verified and not unverified:
        raise UserError(
            f"apply: the weights after step {delta.steps} are not those that {str(file)!r} was "
            "made from, as another device or library version can round otherwise; to keep them all "
            "the same, add --unverified"
        )
    trainer = L.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    content = checkpoint(made, trainer, contents.steps[-1], False, None)
    with new_folder(to) as whole:
        place = RunFolder(whole)
        if mask:
            place.mask.write_bytes(mask)
        FileCheckpoints().save_checkpoint(content, place.checkpoints / "last.ckpt")
        place.config.write_text(text, encoding="utf-8")
        place.summary.write_text(json.dumps(delta.summary, indent=2) + "\n", encoding="utf-8")
        writer = JournalWriter(place.journal)
        writer.begin(replace(header, config=text))
        for record in contents.records:
            writer.append(record)
        writer.close()
    told = "as published" if verified else "NOT as published"
    print(f"{to}: {delta.steps} steps, weights {told}; use it with zolit export {to} --to DIR")


def _journal(data: bytes, delta: Delta, file: Path) -> tuple[Contents, Header]:
    """The journal of a published file, which must be whole and end where the file says."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch) / "journal.bin"
        copy.write_bytes(data)
        contents = read_journal(copy)
    header = contents.header
    reason = str(contents.fault) if contents.fault is not None else "it has other steps"
    if header is None or contents.fault is not None or contents.end != delta.steps or header.step:
        raise UserError(f"apply: the journal in {str(file)!r} is damaged ({reason}); get it again")
    if header.checkpoint or not contents.steps:
        raise UserError(f"apply: the journal in {str(file)!r} starts from no model; get it again")
    return contents, header


def _start(module: ZeroOrderModule, header: Header, file: Path) -> Replay:
    """The base model, which must be the one that the published run started from."""
    try:
        return load_start(module, header, str(file))
    except OtherStartError as error:
        raise UserError(
            f"--model: {module.source.path!r} is not the base model of {str(file)!r} "
            f"({error.reason}); give the model that the run started from, in the same file format"
        ) from error
