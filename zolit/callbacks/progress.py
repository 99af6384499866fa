"""Progress of a run, in a terminal and in a log."""

import time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from rich import progress as bars
from rich.console import Console

from zolit.callbacks.judged import VAL, evaluation_of, primary, validation_figures
from zolit.callbacks.peak_memory import peak_memory
from zolit.runs.milestones import Milestones


class Progress(ProgressBar):
    """Steps, loss, primary figure of the last validation with its step, ms per step, peak memory.

    A bar in a terminal; elsewhere (a log file, CI) a line every ``every_n_steps``, and at most ten
    of a test that takes long. Says before the first pass that kernels are compiled.

    Args:
        every_n_steps: steps between lines where there is no terminal; by default such that a run
            prints at most ten.
        every_n_seconds: seconds between lines of a test where there is no terminal, at least.

    Example:
        ::

            trainer:
              callbacks:
              - class_path: Progress
                init_args:
                  every_n_steps: 50
    """

    def __init__(self, every_n_steps: int | None = None, every_n_seconds: float = 20.0) -> None:
        super().__init__()
        self.every_n_steps = every_n_steps
        self.every_n_seconds = every_n_seconds
        self._enabled = True
        self._validated: tuple[int, str, float] | None = None
        self._told_compiling = False
        self._bar: bars.Progress | None = None
        self._total: int | None = None
        self._before = 0
        self._lines = Milestones()
        self._batches: int | None = None
        self._tested = 0
        self._test_lines = Milestones()
        self._told_at = 0.0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def print(self, *args: Any, **kwargs: Any) -> None:
        if self._enabled and self._bar is not None:
            options = {"soft_wrap": True, "markup": False, "highlight": False}
            self._bar.console.print(*args, **{**options, **kwargs})
        elif self._enabled:
            print(*args, **{"flush": True, **kwargs})

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Blocks of a pruning run that were pruned before it was resumed.
        self._before = int(getattr(pl_module, "steps_before", 0))
        left = _total_steps(trainer)
        self._total = None if left is None else left + self._before
        done = self._before + trainer.global_step
        self._lines.start(done)
        self._tell_compiling(pl_module)
        self._start_bar("fit", self._total, done)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        step = self._before + trainer.global_step
        if self._bar is not None:
            text = self._text(trainer)
            self._bar.update(self._bar.task_ids[0], completed=step, text=text)
        elif self._enabled and self._lines.due(step, self._total, self.every_n_steps):
            print(f"step {step}/{self._total or '?'}  {self._text(trainer)}", flush=True)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        figures = validation_figures(trainer.callback_metrics)
        name = primary(evaluation_of(pl_module), figures)
        value = figures.get(f"{VAL}{name}")
        if value is not None and not trainer.sanity_checking:
            self._validated = (trainer.global_step, str(name).replace("_", " "), float(value))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_bar()

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._tell_compiling(pl_module)
        total = sum(trainer.num_test_batches)
        self._batches = int(total) if total < float("inf") else None
        self._tested, self._told_at = 0, time.monotonic()
        self._test_lines.start()
        self._start_bar("test", self._batches, 0)

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        self._tested += 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=self._tested)
            return
        passed = time.monotonic() - self._told_at >= self.every_n_seconds
        if self._enabled and passed and self._test_lines.due(self._tested, self._batches):
            print(f"test: {self._tested}/{self._batches or '?'} batches", flush=True)
            self._told_at = time.monotonic()

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop_bar()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self._stop_bar()

    def _tell_compiling(self, module: L.LightningModule) -> None:
        if not self._told_compiling and getattr(
            getattr(module, "reading", None), "compiled", False
        ):
            self._told_compiling = True
            self.print(
                "compiling: the first passes take longer, about a minute the first time on a "
                "machine, less from then on"
            )

    def _text(self, trainer: L.Trainer) -> str:
        metrics = trainer.callback_metrics
        parts = []
        if (loss := metrics.get("train_loss")) is not None:
            parts.append(f"loss {float(loss):.3f}")
        if (error := metrics.get("output_error")) is not None:
            parts.append(f"output error {float(error):.4f}")
        if self._validated is not None:
            step, name, value = self._validated
            parts.append(f"val {name} {value:.3f} (step {step})")
        if (step_ms := metrics.get("step_ms")) is not None:
            parts.append(f"{float(step_ms):.0f} ms/step")
        parts.append(f"{peak_memory() / 2**30:.2f} GB")
        return "  ".join(parts)

    def _start_bar(self, name: str, total: int | None, completed: int) -> None:
        console = Console()
        if not (self._enabled and console.is_terminal):
            return
        self._stop_bar()
        self._bar = bars.Progress(
            bars.TextColumn(name),
            bars.BarColumn(bar_width=24),
            bars.MofNCompleteColumn(),
            bars.TimeRemainingColumn(),
            bars.TextColumn("{task.fields[text]}"),
            console=console,
            transient=name != "fit",
        )
        self._bar.start()
        self._bar.add_task(name, total=total, completed=completed, text="")

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def say(trainer: L.Trainer, line: str) -> None:
    """Print a line beside the progress, on the first process only."""
    if not trainer.is_global_zero:
        return
    bar = trainer.progress_bar_callback
    if isinstance(bar, Progress):
        bar.print(line)
    else:
        print(line, flush=True)


def _total_steps(trainer: L.Trainer) -> int | None:
    """Optimizer steps until the end, None where only time or the user ends the run."""
    steps = trainer.estimated_stepping_batches
    return int(steps) if 0 < steps < float("inf") else None
