"""summary.json and curves.png of a run."""

import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from zolit.callbacks.curves import draw_curves
from zolit.callbacks.peak_memory import memory_kind, peak_memory, reset_peak_memory
from zolit.journal.environment import library_versions
from zolit.metrics_file import Row
from zolit.run_folder import RunFolder, write_atomically

_CURVES = ("train_loss", "val_loss", "val_accuracy")


class RunReport(Callback):
    """Gathers what a run was and what came of it.

    A test that runs before fitting is the zero-shot figure, one after it the final one. The
    files are written at the end of fitting, also of an interrupted one, and after a test that
    follows; each is replaced as a whole.

    Args:
        run_dir: folder for summary.json and curves.png.

    Attributes:
        zero_shot: metrics of a test before fitting.
        final: metrics of the last test after fitting.
        curves: pairs of step and value of ``train_loss``, ``val_loss`` and ``val_accuracy``.
    """

    def __init__(self, run_dir: str) -> None:
        self.folder = RunFolder(run_dir)
        self.zero_shot: dict[str, float] = {}
        self.final: dict[str, float] = {}
        self.curves: dict[str, list[tuple[int, float]]] = {name: [] for name in _CURVES}
        self._step_ms: list[float] = []
        self._last: dict[str, float] = {}
        self._status: str | None = None
        self._started = 0.0
        self._seconds = 0.0
        self._peak = 0

    def take_up(
        self, zero_shot: dict[str, float], rows: list[Row], steps: Callable[[int], int]
    ) -> None:
        """Go on with the report of a run that was interrupted.

        Args:
            zero_shot: metrics of its test before fitting.
            rows: of its metrics.csv.
            steps: optimizer steps made after so many batches.
        """
        self.zero_shot = zero_shot
        for row in rows:
            step = steps(int(row["step"]) + 1)
            self._append(step, row, *_CURVES)
            if "step_ms" in row:
                self._step_ms.append(row["step_ms"])

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._status = "running"
        self._started = time.perf_counter()
        reset_peak_memory()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        done = self.curves["train_loss"]
        if done and done[-1][0] == trainer.global_step:
            return  # a batch in the midst of a step
        metrics = _numbers(trainer.callback_metrics)
        self._last.update(metrics)
        self._append(trainer.global_step, metrics, "train_loss")
        if "step_ms" in metrics:
            self._step_ms.append(metrics["step_ms"])

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._status == "running" and not trainer.sanity_checking:
            metrics = _numbers(trainer.callback_metrics)
            self._last.update(metrics)
            self._append(trainer.global_step, metrics, "val_loss", "val_accuracy")

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {
            name: value
            for name, value in _numbers(trainer.callback_metrics).items()
            if name.startswith("test_")
        }
        if self._status is None:
            self.zero_shot = metrics
        else:
            self.final = metrics
            self.write(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish("finished", trainer, pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if self._status == "running" and trainer.global_step > 0:
            interrupted = isinstance(exception, KeyboardInterrupt)
            # On a full disk the exception to tell is the one that ended the run.
            with suppress(OSError):
                self._finish("interrupted" if interrupted else "failed", trainer, pl_module)

    def summary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Everything in summary.json; metrics by name, memory in MB, times in the named unit."""
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        step_ms = statistics.median(self._step_ms) if self._step_ms else None
        return {
            "status": self._status,
            "zero_shot": self.zero_shot or None,
            "final": self.final or None,
            "validation": {n: v for n, v in self._last.items() if n.startswith("val_")},
            "best_checkpoint": f"{Path(best).parent.name}/{Path(best).name}" if best else None,
            "steps": trainer.global_step,
            "skipped_queries": int(self._last.get("skipped_queries", 0)),
            "step_ms_median": round(step_ms, 3) if step_ms is not None else None,
            "fit_seconds": round(self._seconds, 1),
            "peak_memory_mb": round(self._peak / 2**20, 1),
            "memory": memory_kind(),
            "device": str(pl_module.device),
            "seed": getattr(pl_module, "seed", None),
            "versions": {"python": platform.python_version(), **library_versions()},
        }

    def write(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write both files, on the first process only."""
        if not trainer.is_global_zero or getattr(trainer, "fast_dev_run", False):
            return
        self.folder.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(_finite(self.summary(trainer, pl_module)), indent=2)
        write_atomically(self.folder.summary, text + "\n")
        draw_curves(self.folder.curves, self.curves, self.zero_shot)

    def _finish(self, status: str, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._status = status
        self._seconds = time.perf_counter() - self._started
        self._peak = peak_memory()
        self.write(trainer, pl_module)

    def _append(self, step: int, metrics: dict[str, float], *names: str) -> None:
        for name in names:
            if name in metrics:
                self.curves[name].append((step, metrics[name]))


def _numbers(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _finite(value: Any) -> Any:
    """The same with null for what JSON cannot hold (NaN, infinity)."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
