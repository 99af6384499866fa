"""Ctrl-C and SIGTERM end a run between two steps."""

import os
import signal
import threading
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from zolit.runs.keeping import StopRequested


class StopBetweenSteps(Callback):
    """Finishes a step, or a batch of a validation, before a signal ends the run.

    A second Ctrl-C interrupts at once. The earlier signal handlers are restored when fitting ends.

    Attributes:
        requested: the signal that was received; None before.

    Example:
        >>> trainer = L.Trainer(callbacks=[StopBetweenSteps()])  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._earlier: dict[int, Any] = {}
        self._process = 0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may set handlers
        self._process = os.getpid()
        # Lightning has set its own handlers by now, which would end the process by an exception.
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._earlier[number] = signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if self.requested is None and os.getpid() == self._process:  # data workers inherit this
            os.write(2, b"\nzolit: finishing the step; Ctrl-C interrupts at once\n")
        self.requested = number

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        # Not at the end of a batch: its figures are logged after that hook.
        if getattr(pl_module, "between_steps", True):
            self._stop(trainer)

    def on_validation_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        self._stop(trainer)

    def _stop(self, trainer: L.Trainer) -> None:
        if self.requested is not None:
            raise StopRequested(self.requested, trainer.global_step)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._restore()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if not isinstance(exception, StopRequested):  # then the process is about to end
            self._restore()

    def _restore(self) -> None:
        while self._earlier:
            signal.signal(*self._earlier.popitem())
