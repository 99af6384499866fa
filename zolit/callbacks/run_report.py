"""summary.json and curves.png of a run, and the lines that are printed during it."""

import json
import math
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from zolit.callbacks.best import BestCheckpoint, Validation, best_validation
from zolit.callbacks.costs import Costs
from zolit.callbacks.judged import VAL, chooser, evaluation_of, judged, primary, validation_figures
from zolit.callbacks.peak_memory import memory_kind, peak_memory, reset_peak_memory
from zolit.callbacks.progress import say
from zolit.callbacks.watch import Watch
from zolit.caller import at_command_line
from zolit.evaluations.text_loss import TextLoss
from zolit.extras import EXTRAS, has_extra, mend
from zolit.files import write_text
from zolit.gradient import taken_step
from zolit.runs.folder import RunFolder
from zolit.runs.journal.environment import library_versions
from zolit.runs.metrics_file import Row
from zolit.training.module import TuningModule


class RunReport(Callback):
    """Collects the figures of a run for summary.json and curves.png; prints each validation.

    The figures of a test before fitting are the zero-shot figures; those of a test after fitting
    are the final ones. The files are written when fitting ends or is interrupted, and again after a
    test that follows. Each file is replaced as a whole.

    Args:
        run_dir: folder for summary.json and curves.png.
        best_by: figure of validation that decides which is the best so far; by default the one that
            the module's evaluation names, see `Evaluation.chooser`.

    Attributes:
        zero_shot: metrics of a test before fitting.
        final: metrics of the last test after fitting.
        text_loss: loss on the prompts' own text, ``zero_shot`` and ``fine_tuned`` (`TextLoss`).
        against_start: what else the model lost, where the run's options ask for it.
        watch: looks for signs that the run does nothing or ruins the model.
        costs: wall-clock and passes, which metrics.csv gets at each step.
        curves: pairs of step and value of ``train_loss`` and of each figure of validation.

    Example:
        >>> trainer = L.Trainer(callbacks=[RunReport("runs/mine")])  # doctest: +SKIP
    """

    def __init__(self, run_dir: str, best_by: str | None = None) -> None:
        self.folder = RunFolder(run_dir)
        self.best_by = best_by
        self.validations: list[Validation] = []
        self.text_loss: dict[str, float] = {}
        self.against_start: dict[str, Any] = {}
        self.watch = Watch(print)
        self.costs = Costs()
        self.zero_shot: dict[str, float] = {}
        self.final: dict[str, float] = {}
        self.curves: dict[str, list[tuple[int, float]]] = {"train_loss": []}
        self._text: TextLoss | None = None
        self._step_ms: list[float] = []
        self._last: dict[str, float] = {}
        self._status: str | None = None
        self._started = 0.0
        self._seconds = 0.0
        self._totals: dict[str, float] = {}
        self._peak = 0

    def take_up(
        self, zero_shot: dict[str, float], rows: list[Row], steps: Callable[[int], int]
    ) -> None:
        """Continue the report of a run that was interrupted.

        Args:
            zero_shot: metrics of its test before fitting. Empty if the run was killed before it
                wrote them: then those that this process has measured stay.
            rows: of its metrics.csv.
            steps: maps a number of batches to the number of optimizer steps made by then.
        """
        if zero_shot:
            self.zero_shot = zero_shot
            self.text_loss = earlier_text_loss(self.folder)
        self.costs.take_up(rows)
        for row in rows:
            step, done = steps(int(row["step"]) + 1), self.curves["train_loss"]
            self._validated(step, row)
            if done and done[-1][0] == step:
                continue  # a batch of a step that needs further ones has the row of the last step
            self._append(step, row, "train_loss")
            if "step_ms" in row:
                self._step_ms.append(row["step_ms"])

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self.watch.say = partial(say, trainer)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._status = "running"
        self._started = time.perf_counter()
        reset_peak_memory()
        if not has_extra("plots"):
            say(trainer, f"no curves.png: {EXTRAS['plots']} is not installed; {mend('plots')}")

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.costs.start(pl_module, trainer.global_step, self._started)
        self.watch.started(trainer, pl_module)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        for name, total in self.costs.so_far().items():
            pl_module.log(name, total)
        done = self.curves["train_loss"]
        if done and done[-1][0] == trainer.global_step:
            return  # the step needs further batches
        metrics = _numbers(trainer.callback_metrics)
        self._last.update(metrics)
        self._append(trainer.global_step, metrics, "train_loss")
        if "step_ms" in metrics:
            self._step_ms.append(metrics["step_ms"])
        self.watch.stepped(trainer, pl_module, taken_step(outputs))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._status == "running" and not trainer.sanity_checking:
            metrics = _numbers(trainer.callback_metrics)
            self._last.update(metrics)
            if (one := self._validated(trainer.global_step, metrics)) is not None:
                evaluation = evaluation_of(pl_module)
                by = self.best_by or chooser(evaluation)
                best = best_validation(self.validations, by, evaluation) is one
                say(trainer, f"validation after {_told(one)}{' (best so far)' if best else ''}")
            zero_shot = self.zero_shot.get("test_loss")
            self.watch.validated(pl_module, metrics, zero_shot, trainer.global_step)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._text = TextLoss() if isinstance(pl_module, TuningModule) else None

    def on_test_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        *args: Any,
        **kwargs: Any,
    ) -> None:
        if self._text is not None and isinstance(pl_module, TuningModule):
            self._text.update(pl_module.network, batch)

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = {
            name: value
            for name, value in _numbers(trainer.callback_metrics).items()
            if name.startswith("test_")
        }
        text = None if self._text is None else self._text.value
        if self._status is None:
            self.zero_shot = metrics
            self.text_loss = {} if text is None else {"zero_shot": text}
            self.watch.measured_untuned(pl_module)
        else:
            self.final = metrics
            if at_command_line():  # where the table that follows shows every finding
                self.watch.say = _not_now
            if text is not None:
                self.text_loss["fine_tuned"] = text
            self.watch.tested(pl_module, metrics, self.zero_shot)
            self.watch.texts(*(self.text_loss.get(name) for name in ("zero_shot", "fine_tuned")))
            self.write(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._finish("finished", trainer, pl_module)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if self._status == "running" and trainer.global_step > 0:
            interrupted = isinstance(exception, KeyboardInterrupt)
            # If the disk is full, the user should see the exception that ended the run.
            with suppress(OSError):
                self._finish("interrupted" if interrupted else "failed", trainer, pl_module)

    def summary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Everything in summary.json; metrics by name, memory in MB, times in the named unit."""
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        length = self.watch.length
        step_ms = statistics.median(self._step_ms) if self._step_ms else None
        figures = dict.fromkeys([*self._last, *self.zero_shot, *self.final])
        return {
            "status": self._status,
            "judged": judged(evaluation_of(pl_module), figures),
            "zero_shot": self.zero_shot or None,
            "final": self.final or None,
            "text_loss": self.text_loss or None,
            "general_text": self.against_start.get("general_text"),
            "weights_moved": self.against_start.get("weights_moved"),
            "findings": self.watch.found,
            "best": self._best(trainer),
            "validation": {n: v for n, v in self._last.items() if n.startswith("val_")},
            "validation_step": self.validations[-1].step if self.validations else None,
            "best_checkpoint": f"{Path(best).parent.name}/{Path(best).name}" if best else None,
            "steps": trainer.global_step,
            "relative_step": length.relative if length is not None and length.steps else None,
            "skipped_queries": int(self._last.get("skipped_queries", 0)),
            "step_ms_median": round(step_ms, 3) if step_ms is not None else None,
            "fit_seconds": round(self._seconds, 1),
            "forwards": self._totals.get("forwards"),
            "backwards": self._totals.get("backwards"),
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
        write_text(self.folder.summary, text + "\n")
        best = self._best(trainer)
        step = trainer.global_step if best is None else best["step"]
        if has_extra("plots"):
            from zolit.callbacks.curves import draw_curves

            known = (*(name for name in self.curves if name.startswith(VAL)), *self.final)
            name = primary(evaluation_of(pl_module), known)
            panels = list(dict.fromkeys(["loss", *([name] if name else [])]))
            draw_curves(self.folder.curves, self.curves, self.zero_shot, self.final, step, panels)

    def _finish(self, status: str, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._status = status
        self._totals = self.costs.so_far()
        self._seconds = self._totals.get("seconds", time.perf_counter() - self._started)
        self._peak = peak_memory()
        self.write(trainer, pl_module)

    def _best(self, trainer: L.Trainer) -> dict[str, Any] | None:
        """The validation of the best checkpoint, and the figure that chose it; None without one."""
        chosen: Any = trainer.checkpoint_callback
        if not isinstance(chosen, BestCheckpoint) or chosen.best is None:
            return None
        return {"by": chosen.monitor, **chosen.best.flat()}

    def _validated(self, step: int, metrics: dict[str, float]) -> Validation | None:
        figures = validation_figures(metrics)
        if not figures:
            return None
        self._append(step, figures, *figures)
        found = Validation(step, figures)
        self.validations.append(found)
        return found

    def _append(self, step: int, metrics: dict[str, float], *names: str) -> None:
        for name in names:
            if name in metrics:
                self.curves.setdefault(name, []).append((step, metrics[name]))


def earlier_text_loss(folder: RunFolder) -> dict[str, float]:
    """Loss on the prompts' own text before fitting, from the summary of a run; empty without."""
    try:
        found = json.loads(folder.summary.read_text(encoding="utf-8"))["text_loss"]["zero_shot"]
        return {"zero_shot": float(found)}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _told(one: Validation) -> str:
    figures = ((name.removeprefix(VAL), value) for name, value in one.figures.items())
    told = (
        f"{name.replace('_', ' ')} {value:.{4 if name == 'loss' else 3}f}"
        for name, value in figures
    )
    return f"step {one.step}: {', '.join(told)}"


def _numbers(metrics: Any) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items()}


def _finite(value: Any) -> Any:
    """The same value with None in the place of NaN and infinity, which JSON cannot hold."""
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _not_now(line: str) -> None:
    """Print nothing."""
