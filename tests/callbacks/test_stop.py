"""Signals end a run between two steps."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import pytest
from toy import Toy, loader, trainer

from zolit.callbacks import StopBetweenSteps, StopRequested

sys.path.insert(0, str(Path(__file__).parents[1]))
from tiny_runs import contents, module, start

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


class Signalled(Toy):
    """Gets signals in the midst of its third step."""

    def __init__(self, *numbers: int) -> None:
        super().__init__()
        self.numbers = numbers

    def training_step(self, batch: Any, batch_idx: int) -> None:
        if self.global_step == 2:
            for number in self.numbers:
                os.kill(os.getpid(), number)
        super().training_step(batch, batch_idx)


def stopped(one: L.LightningModule, *callbacks: L.Callback) -> tuple[Any, L.Trainer]:
    run = trainer(StopBetweenSteps(), *callbacks)
    with pytest.raises(SystemExit) as stop:  # Lightning's end after a KeyboardInterrupt
        run.fit(one, loader(), loader())
    return stop.value.__context__, run


@pytest.mark.parametrize("number", SIGNALS)
def test_the_step_is_finished_and_logged(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    asked, run = stopped(Signalled(number))
    assert isinstance(asked, StopRequested)
    assert (asked.signal, asked.step) == (number, 3)
    assert run.global_step == 3
    assert float(run.callback_metrics["step_ms"]) == 30
    assert "finishing the step" in capfd.readouterr().err


def test_a_second_interrupt_does_not_wait() -> None:
    asked, run = stopped(Signalled(signal.SIGINT, signal.SIGINT))
    assert type(asked) is KeyboardInterrupt
    assert run.global_step == 2


def test_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    trainer(StopBetweenSteps()).fit(Toy(), loader(), loader())
    assert [signal.getsignal(number) for number in SIGNALS] == before
    with pytest.raises(ValueError, match="toy"):
        trainer(StopBetweenSteps()).fit(Toy(fail_at=2), loader(), loader())
    assert [signal.getsignal(number) for number in SIGNALS] == before


class Send(L.Callback):
    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.fit_loop.epoch_loop.batch_progress.total.ready == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_step_of_several_batches_is_finished(tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        start(tmp_path, module("micro-batches"), StopBetweenSteps(), Send())
    assert isinstance(stop.value.__context__, StopRequested)
    [step] = contents(tmp_path).steps
    assert step.position.batches == 4
