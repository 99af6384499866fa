"""Records every step of a run, so that the run can be resumed, replayed and checked."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from zolit.arguments import at_least
from zolit.checkpoints.continuing import check_loops, check_schedule, check_training
from zolit.checkpoints.tensors import start_tensors, weights_digest
from zolit.datamodules.epochs import ResumableLoader
from zolit.digests import combined_digest, tensor_digests
from zolit.gradient import taken_step
from zolit.runs.folder import RunFolder
from zolit.runs.journal import Contents, Header, JournalWriter, Session, Step, Weights
from zolit.runs.journal.environment import environment
from zolit.runs.journal.position import position
from zolit.runs.journal.records import Record
from zolit.runs.parts import recorded_parts
from zolit.runs.rebuild import optimizer_and_schedule
from zolit.training.zero_order import ZeroOrderModule


class Journal(Callback):
    """Keeps the journal of a run: start weights and journal together are the run (docs/runs.md).

    Each optimizer step is a record of at most 64 bytes a query. The operating system has it before
    the next step begins. The file is locked during the run. Modules other than `ZeroOrderModule`
    have no journal.

    Args:
        run_dir: folder of the file; by default the trainer's ``default_root_dir``.
        every_n_steps: steps between two waits for the disk. A machine that loses power loses at
            most that many records; a process that is killed loses none.

    Attributes:
        config: the configuration as YAML, written to the header.

    Raises:
        UserError: if another process writes to the folder, or the file cannot be written.

    Example:
        ::

            trainer:
              callbacks:
              - class_path: Journal
                init_args:
                  every_n_steps: 100
    """

    def __init__(self, run_dir: str | None = None, every_n_steps: int = 1) -> None:
        at_least("every_n_steps", every_n_steps)
        self.run_dir = run_dir
        self.every_n_steps = every_n_steps
        self.config = ""
        self._writer: JournalWriter | None = None
        self._resumed: tuple[Contents, int, dict[str, Any]] | None = None
        self._written = -1
        self._digested = -1

    def claim(self, run_dir: str | Path) -> None:
        """Lock the journal of a folder, before anything else in it is written."""
        if self._writer is None:
            path = RunFolder(run_dir).journal
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = JournalWriter(path, self.every_n_steps)

    def take_up(self, contents: Contents, steps: int, changes: dict[str, Any]) -> None:
        """Continue a journal instead of beginning a new one.

        Args:
            contents: of the folder's journal.
            steps: number of steps that the weights have made when fitting starts.
            changes: options that the user changes; they are recorded.
        """
        self._resumed = (contents, steps, changes)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not isinstance(pl_module, ZeroOrderModule) or not trainer.is_global_zero:
            return
        if getattr(trainer, "fast_dev_run", False):
            return
        self.claim(self.run_dir or trainer.default_root_dir)
        assert self._writer is not None  # noqa: S101  (claimed just now)
        if self._resumed is not None:
            contents, steps, changes = self._resumed
            self._resumed = None
            facts = {
                "environment": environment(pl_module.device, pl_module.reading.compiled),
                "changes": changes,
            }
            self._writer.take_up(contents, steps, Session(steps, facts))
        else:
            self._writer.begin(self._header(trainer, pl_module))

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Check the state of loops and optimizers, which Lightning would load unchecked."""
        if isinstance(pl_module, ZeroOrderModule) and trainer.state.fn == TrainerFn.FITTING:
            check_loops(checkpoint, trainer)
            optimizer, schedule = optimizer_and_schedule(pl_module)
            check_training(checkpoint, pl_module.weights, optimizer)
            check_schedule(checkpoint, schedule)

    def _header(self, trainer: L.Trainer, module: ZeroOrderModule) -> Header:
        loader = trainer.train_dataloader
        found = tensor_digests(start_tensors(module.network))
        return Header(
            config=self.config,
            weights=found,
            whole=combined_digest(found).hex(),
            fingerprint=module.fingerprint,
            data=loader.order() if isinstance(loader, ResumableLoader) else {},
            environment=environment(module.device, module.reading.compiled),
            step=trainer.global_step,
            checkpoint=str(Path(trainer.ckpt_path).resolve()) if trainer.ckpt_path else "",
            parts=recorded_parts(module),
        )

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        taken = taken_step(outputs)
        if self._writer is None or taken is None:
            return  # the step needs further batches
        self._written = taken.step
        mask = (1 << 64) - 1
        record = Step(
            step=taken.step,
            rates=taken.rates,
            keys=tuple(key & mask for key in taken.gradient.keys.tolist()),
            values=tuple(taken.raw_values.tolist()),
            rounding_key=taken.gradient.rounding_key & mask,
            position=position(trainer),
            skipped=taken.skipped,
            skipped_in_row=taken.skipped_in_row,
        )
        self._append(record)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._digest(trainer, pl_module, final=False)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._digest(trainer, pl_module, final=True)
        self.close()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self.close()

    def _digest(self, trainer: L.Trainer, module: L.LightningModule, final: bool) -> None:
        """Record a digest of the weights as they are now, and wait for the disk."""
        if self._writer is None or not isinstance(module, ZeroOrderModule):
            return
        if self._written + 1 != trainer.global_step or (
            self._digested == trainer.global_step and not final
        ):
            return
        self._digested = trainer.global_step
        self._append(Weights(trainer.global_step, weights_digest(module.network), final))
        self._writer.flush()

    def _append(self, record: Record) -> None:
        assert self._writer is not None  # noqa: S101  (callers return without one)
        earlier = self._writer.append(record)
        if earlier is None or _found_alike(earlier, record):
            return
        what = "weights" if isinstance(record, Weights) else "losses"
        rank_zero_warn(
            f"step {record.step} was made again and gave other {what} than the journal says: from "
            "here on this is another run than the one that was interrupted; for an equal one use "
            "its configuration, libraries, threads and device"
        )

    def close(self) -> None:
        """Close the file and release its lock."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def _found_alike(one: Record, two: Record) -> bool:
    """Whether two records of a step have the same keys and losses; learning rates may differ."""
    if not (isinstance(one, Step) and isinstance(two, Step)):
        return False
    return (one.keys, one.values) == (two.keys, two.values)
