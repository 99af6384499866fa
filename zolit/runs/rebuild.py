"""Rebuilds the state of a run at a step, from its checkpoints and its journal."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from torch.optim import Optimizer

from zolit.caller import by_caller
from zolit.checkpoints.file import read_checkpoint
from zolit.checkpoints.tensors import weight_tensors
from zolit.datamodules.epochs import ResumableLoader
from zolit.digests import combined_digest, tensor_digests
from zolit.errors import UserError
from zolit.recipes.guard import load_yaml
from zolit.runs.finished import recipe_text
from zolit.runs.folder import RunFolder
from zolit.runs.journal.earlier import move_as_recorded
from zolit.runs.journal.position import loop_state
from zolit.runs.journal.reader import Contents, read_journal
from zolit.runs.journal.records import Header, Position, Step, Weights
from zolit.runs.journal.replay import Replay, Replayed, check_start
from zolit.runs.parts import check_version
from zolit.training.first_order import FirstOrderModule
from zolit.training.module import TuningModule
from zolit.training.zero_order import ZeroOrderModule


@dataclass(frozen=True)
class Base:
    """A full checkpoint from which a journal is replayed.

    Attributes:
        path: of the file.
        step: number of steps that its weights have made.
        content: the checkpoint.
    """

    path: Path
    step: int
    content: dict[str, Any]


def read_run(folder: RunFolder, salvage: bool, option: str | None = None) -> Contents:
    """Read the journal of a run, to resume or replay the run.

    Args:
        folder: of the run.
        salvage: take the intact part of a damaged journal.
        option: what sets ``salvage``, for the message; None for that of a replay.

    Raises:
        UserError: if there is no journal, or its header is damaged, or ``salvage`` is off and any
            other part of it is damaged.
    """
    if not folder.journal.is_file() and _first_order(folder):
        raise UserError(
            f"journal: the run in {str(folder.path)!r} is of FirstOrderModule, whose steps follow "
            "from no few numbers and are not written down; use its checkpoints, and go on with it "
            f"by zolit fit --resume {folder.path}"
        )
    contents = read_journal(folder.journal)
    fault = contents.fault
    if contents.header is None and fault is not None:
        raise UserError(
            f"journal: {str(folder.journal)!r} is damaged, {fault}; nothing can be replayed, "
            + by_caller(
                "start from a checkpoint of the run with --ckpt_path, or anew",
                "take a checkpoint of the run by zolit.load, or start anew",
            )
        )
    if fault is not None and not salvage:
        option = option or by_caller("--salvage", "salvage=True")
        raise UserError(
            f"journal: {str(folder.journal)!r} is damaged, {fault}; to use the intact part, which "
            f"ends after step {contents.end}, add {option}"
        )
    return contents


def _first_order(folder: RunFolder) -> bool:
    """Whether the configuration of a run names `FirstOrderModule`."""
    config = load_yaml(recipe_text(folder) or "{}", str(folder.config))
    model = config.get("model") if isinstance(config, dict) else None
    named = model.get("class_path") if isinstance(model, dict) else None
    return str(named).rpartition(".")[2] == FirstOrderModule.__name__


def newest_base(
    folder: RunFolder, contents: Contents, until: int, say: Callable[[str], None]
) -> Base | None:
    """The run's newest readable checkpoint whose weights its journal confirms; None for none.

    Args:
        folder: of the run.
        contents: of its journal.
        until: checkpoints with more steps than this are left out.
        say: prints a sentence about each file that cannot be used.
    """
    digest_at = {one.step: one.digest for one in contents.records if isinstance(one, Weights)}
    files = sorted(folder.checkpoints.glob("*.ckpt"), key=_modified, reverse=True)
    for path in files:
        try:
            base = _read(path)
            found = combined_digest(tensor_digests(base.content["state_dict"]))
        except UserError as error:
            # Not refused: an older checkpoint or the start gives the weights too.
            say(f"{path} cannot be used; the journal is replayed instead ({error})")
            continue
        if base.step > until:
            continue
        if digest_at.get(base.step) == found:
            return base
        if base.step <= contents.end:
            say(f"{path} holds other weights than the journal says; it is left out")
    return None


def _read(path: Path) -> Base:
    """A checkpoint file, mapped.

    Raises:
        UserError: if it is damaged, or no checkpoint of zolit.
    """
    content = read_checkpoint(path)
    return Base(path, content["global_step"], content)


def _modified(path: Path) -> float:
    return path.stat().st_mtime


def first_base(header: Header) -> Base | None:
    """The checkpoint that a run started from; None if it started from a model.

    Raises:
        UserError: if the file is no longer there or no longer the same.
    """
    if not header.checkpoint:
        return None
    try:
        return _read(Path(header.checkpoint))
    except UserError as error:
        raise UserError(f"{error}; the run started from this file: put it back") from error


def optimizer_and_schedule(module: TuningModule) -> tuple[Optimizer, Any]:
    """A new optimizer of a module's weights and its schedule of learning rates, None without one.

    Args:
        module: prepared.
    """
    made: Any = module.configure_optimizers()
    if isinstance(made, Optimizer):
        return made, None
    [optimizer], [schedule] = made
    return optimizer, schedule


def replayed(module: ZeroOrderModule) -> Replayed:
    """The parts of a loaded module that the records of a journal move."""
    optimizer, schedule = optimizer_and_schedule(module)
    return Replayed(
        network=module.network,
        weights=module.weights,
        optimizer=optimizer,
        scheduler=schedule,
        finish=module.estimator.finish,
        before_step=partial(module.estimator.before_step, weights=module.weights),
        fingerprint=module.fingerprint,
        check=module.on_load_checkpoint,
        describe=module.on_save_checkpoint,
    )


def load_start(module: ZeroOrderModule, header: Header, run: str) -> Replay:
    """Load a module's model and bring it to the weights that the run started from.

    From then on the weights move as those of the run did, by the version of its journal.

    Raises:
        UserError: if they are not those that the journal names, or the quantizer has another
            version than that of the run.
    """
    check_version(module, header.parts, run)
    module.configure_model()
    move_as_recorded(module.weights, header.version)
    first = first_base(header)
    replay = Replay(replayed(module), header.step if first is None else 0)
    if first is not None:
        replay.restore(first.content, rates=True)
    check_start(replay.state, header, run)
    return replay


def resumed_checkpoint(
    module: ZeroOrderModule,
    trainer: L.Trainer,
    loader: Any,
    contents: Contents,
    folder: RunFolder,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """A checkpoint of the step from which an interrupted run continues; None: from its start.

    It is made from the newest checkpoint and the journal. The last step of the journal is left out
    and will be made again: a validation after it may have been cut off, and an equal record shows
    that this process computes the same as the interrupted one.

    Args:
        module: of the run's recipe; its weights are moved.
        trainer: that will go on.
        loader: the training loader.
        contents: of the journal.
        folder: of the run.
        say: prints a sentence for the user.

    Raises:
        UserError: if model or recipe are not those of the run.
    """
    header = contents.header
    if header is None:
        return None
    replay = load_start(module, header, str(folder.path))
    base = newest_base(folder, contents, contents.end, say)
    if base is not None:
        replay.restore(base.content, rates=bool(header.checkpoint))
        replay.release_errors()
    target = max(replay.steps, contents.end - 1)
    difference = replay.run(contents.records, target)
    if difference is not None:
        raise UserError(
            f"resume: {difference}; use the device, kernels and library versions of the run"
        )
    if target == header.step:
        return base.content if base is not None else None
    last = contents.steps[target - header.step - 1]
    resumable = isinstance(loader, ResumableLoader)
    return checkpoint(replay, trainer, last, resumable, base)


def checkpoint(
    replay: Replay, trainer: L.Trainer, last: Step, resumable: bool, base: Base | None
) -> dict[str, Any]:
    """The state that a replay has reached, as a checkpoint of Lightning.

    Args:
        replay: that has just made the step ``last``.
        trainer: that would go on from here.
        last: the record of that step.
        resumable: whether the training loader takes a state.
        base: checkpoint whose callbacks' states are carried over.
    """
    kept = {} if base is None else base.content
    place: Position = last.position
    found: dict[str, Any] = {
        "epoch": place.epoch,
        "global_step": replay.steps,
        "pytorch-lightning_version": L.__version__,
        "state_dict": weight_tensors(replay.state.network),
        "callbacks": kept.get("callbacks", {}),
        "optimizer_states": [replay.optimizer.state_dict()],
        "lr_schedulers": [] if replay.scheduler is None else [replay.scheduler.state_dict()],
    }
    replay.state.describe(found)
    found["zolit_skipped_queries"] = last.skipped
    found["zolit_skipped_in_row"] = last.skipped_in_row
    found["loops"] = {
        "fit_loop": loop_state(trainer, place, replay.steps, resumable),
        "validate_loop": trainer.validate_loop.state_dict(),
        "test_loop": trainer.test_loop.state_dict(),
        "predict_loop": trainer.predict_loop.state_dict(),
    }
    return found
