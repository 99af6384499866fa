"""The folder that keeps one fine-tuning run."""

import json
import shutil
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zolit.arguments import check_constructor
from zolit.caller import by_caller, option
from zolit.errors import UserError
from zolit.files import Lock, LockedError, lock_file, work_folder
from zolit.runs.journal.writer import is_written


@check_constructor
@dataclass(frozen=True)
class RunOptions:
    """Options of a run besides its steps, for ``zolit fit``; the other commands ignore them.

    Of these ``zolit prune`` goes by ``run_dir``, ``overwrite``, ``zero_shot`` and
    ``test_after_fit``.

    Attributes:
        run_dir: folder of the run: config.yaml, metrics.csv, summary.json, curves.png and
            checkpoints/. By default ``runs/`` and the name of the last config file.
        overwrite: replace an earlier run in that folder instead of refusing it.
        journal: record every step, so that the run can be resumed and replayed.
        salvage: resume from the intact part of a damaged journal instead of refusing it.
        zero_shot: measure the untuned model on the test rows before fitting.
        test_after_fit: measure the best checkpoint on the test rows after fitting.
        best_by: figure of validation that chooses the best checkpoint, such as ``val_loss``; the
            other figures decide ties. By default the one that the model's evaluation names: the
            loss for `Classification`.
        general_text: file whose perplexity is told before and after. It has nothing to do with the
            task: text, or JSON lines with a field ``text``.
        general_text_package: installed pip distribution with this file.
        weights_moved: tell how far the weights have moved. It is measured by their length, in all
            and for each kind of layer; the tensors that move are kept in ``start.ckpt``, as large
            as a checkpoint.

    Example:
        >>> RunOptions(zero_shot=False).test_after_fit
        True
    """

    run_dir: str | None = None
    overwrite: bool = False
    journal: bool = True
    salvage: bool = False
    zero_shot: bool = True
    test_after_fit: bool = True
    best_by: str | None = None
    general_text: str | None = None
    general_text_package: str | None = None
    weights_moved: bool = False


class RunFolder:
    """The paths of a run; nothing is touched on disk before ``claim``.

    Args:
        path: the folder.
        overwrite: whether ``create`` may replace an earlier run's files.
    """

    def __init__(self, path: str | Path, overwrite: bool = False) -> None:
        self.path = Path(path)
        self.overwrite = overwrite
        self.config = self.path / "config.yaml"
        self.metrics = self.path / "metrics.csv"
        self.summary = self.path / "summary.json"
        self.curves = self.path / "curves.png"
        self.journal = self.path / "journal.bin"
        self.checkpoints = self.path / "checkpoints"
        self.mask = self.path / "mask.safetensors"
        self.saliency = self.path / "saliency.safetensors"
        self.start_tensors = self.path / "start.ckpt"
        self.start_figures = self.path / "start.json"
        self.support = self.path / "support.safetensors"
        self.blocks = self.path / "blocks"
        self._made: Path | None = None
        self._lock: Lock | None = None
        self._began = False

    def holds_run(self) -> bool:
        """Whether there are files of a run.

        A configuration alone may be a recipe. A run that was made from Python has no configuration.
        """
        made = (self.summary, self.metrics, self.checkpoints)
        return (
            self.journal.is_file()
            or (self.config.is_file() and any(file.exists() for file in made))
            or self.holds_checkpoint()
        )

    def holds_checkpoint(self) -> bool:
        """Whether there is a checkpoint of a run."""
        return any(self.checkpoints.glob("*.ckpt"))

    def check(self) -> None:
        """Whether ``claim`` would succeed, leaving no trace.

        Raises:
            UserError: the path is a file, a folder with something in it (without ``overwrite``),
                cannot be written, or another process is writing to it.
        """
        existing = self.path
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        if not existing.is_dir():
            raise UserError(
                f"{option('run.run_dir')}: got {str(self.path)!r}, but {str(existing)!r} is a "
                "file; name a folder that is new or empty."
            )
        try:
            occupied = existing == self.path and any(map(self._counts, self.path.iterdir()))
            with tempfile.TemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise self._unwritable(error) from error
        if occupied and not self.overwrite:
            raise UserError(
                f"{option('run.run_dir')}: got {str(self.path)!r}, which is not empty; name "
                "another folder, go on with the run in it by "
                f"{by_caller('--resume', 'resume=True')}, or replace it with "
                f"{by_caller('--run.overwrite=true', 'overwrite=True')}."
            )
        self._refuse_if_written()

    def check_resumable(self) -> None:
        """Whether the run in the folder can be resumed.

        Raises:
            UserError: there is no run, another process is writing to it, or it cannot be written.
        """
        kept = self.journal.is_file() or self.config.is_file() or self.holds_checkpoint()
        if not (kept or self.blocks.is_dir()):
            raise UserError(
                f"resume: {str(self.path)!r} holds no run; give the folder that "
                f"{by_caller('--run.run_dir', 'run_dir')} named"
            )
        try:
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise self._unwritable(error) from error
        self._refuse_if_written()

    def claim(self) -> None:
        """Make the folder, and keep other runs out of it until ``release``; what is in it stays.

        Raises:
            UserError: as ``check``.
        """
        if self._lock is not None:
            return
        self.check()
        try:
            if not self.path.exists():
                self._made = self._first_missing()
                self.path.mkdir(parents=True, exist_ok=True)
            self._began = self._holds_start() and not any(map(self._counts, self.path.iterdir()))
            self._lock = Lock(self.journal)
        except LockedError as error:
            self._made = None  # another run has made it
            raise self._written() from error
        except OSError as error:
            raise self._unwritable(error) from error

    def take_up(self) -> None:
        """Keep other processes out of a run that is resumed until ``release``.

        Raises:
            UserError: if another process writes to it.
        """
        try:
            self._lock = Lock(self.journal)
        except LockedError as error:
            raise self._written() from error
        except OSError as error:
            raise self._unwritable(error) from error

    def release(self) -> None:
        """Let others take the folder; may be called again."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def create(self, keeps_saliency: bool = False) -> None:
        """Claim the folder; with ``overwrite``, remove what an earlier run left, and only that.

        Args:
            keeps_saliency: whether the saliency in the folder is this run's.

        Raises:
            UserError: as ``check``.
        """
        self.claim()
        try:
            self.remove_files()
            if not keeps_saliency:
                self.saliency.unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def remove_files(self) -> None:
        """Delete what a run has written, and only that; its saliency stays.

        Raises:
            OSError: if something cannot be deleted.
        """
        made = (self.journal, self.config, self.metrics, self.summary, self.curves, self.mask)
        for old in (*made, self.support, self.start_tensors, self.start_figures):
            old.unlink(missing_ok=True)
        for folder in (self.checkpoints, self.blocks):
            if folder.exists():
                shutil.rmtree(folder)

    def discard(self) -> None:
        """Undo ``claim`` and ``create`` for a run that was refused before its first step.

        A saliency that such a run has computed, or a part of it, stays for the next start.
        """
        self.release()
        if self._made is None and not self._began:
            return
        if self._holds_start():
            with suppress(OSError):
                self.remove_files()
            return
        if self._made is None:
            return
        shutil.rmtree(self.path, ignore_errors=True)
        above = self.path.parent
        with suppress(OSError):  # somebody else has put something into the folder
            while above.is_relative_to(self._made):
                above.rmdir()
                above = above.parent

    def _holds_start(self) -> bool:
        return self.saliency.exists() or work_folder(self.saliency).exists()

    def _first_missing(self) -> Path:
        """The outermost folder that ``claim`` has to make."""
        missing = self.path
        while not missing.parent.exists():
            missing = missing.parent
        return missing

    def _counts(self, file: Path) -> bool:
        """Whether a file in the folder is more than the lock that every run leaves, and what a
        start computes that was killed."""
        began = (self.saliency, work_folder(self.saliency))
        return file not in (lock_file(self.journal), *began)

    def _refuse_if_written(self) -> None:
        if self._lock is None and is_written(self.journal):
            raise self._written()

    def _written(self) -> UserError:
        return UserError(
            f"{option('run.run_dir')}: got {str(self.path)!r}, which another process is writing "
            "to; wait until it has ended, or name another folder."
        )

    def _unwritable(self, error: OSError) -> UserError:
        return UserError(
            f"{option('run.run_dir')}: got {str(self.path)!r}, which cannot be written "
            f"({error.strerror or error}); name a folder you may write."
        )


def summary_of(folder: RunFolder) -> dict[str, Any]:
    """summary.json of a run; empty if it was not written or is not readable."""
    try:
        found = json.loads(folder.summary.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
