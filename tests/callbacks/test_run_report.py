import json
from pathlib import Path
from typing import Any

import pytest
from toy import Toy, loader, trainer

from zolit.callbacks import RunReport


def summary(folder: Path) -> dict[str, Any]:
    text = (folder / "summary.json").read_text(encoding="utf-8")

    def refuse(name: str) -> float:
        raise AssertionError(f"{name} is not JSON")

    found: dict[str, Any] = json.loads(text, parse_constant=refuse)
    return found


@pytest.mark.filterwarnings("ignore")
def test_figures_before_during_and_after(tmp_path: Path) -> None:
    report, module = RunReport(str(tmp_path / "run")), Toy()
    runner = trainer(report)
    runner.test(module, loader(), verbose=False)
    assert not (tmp_path / "run").exists()
    runner.fit(module, loader(), loader())
    assert summary(tmp_path / "run")["final"] is None
    runner.test(module, loader(), verbose=False)
    told = summary(tmp_path / "run")
    assert told["status"] == "finished"
    assert told["zero_shot"] == {"test_loss": 2.0, "test_accuracy": 0.5}
    assert told["final"] == {"test_loss": None, "test_accuracy": 0.75}, "infinity is null in JSON"
    assert told["validation"] == {"val_loss": 0.5, "val_accuracy": 0.25}
    assert told["steps"] == 6
    assert told["step_ms_median"] == 35.0
    assert told["skipped_queries"] == 1
    assert told["seed"] == 3
    assert told["fit_seconds"] >= 0
    assert told["forwards"] is None, "the module counts none"
    assert told["judged"] == {"primary": "accuracy", "modes": {"loss": "min", "accuracy": "max"}}
    assert (tmp_path / "run" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"summary.json", "curves.png"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("error", "raised", "status"),
    [(ValueError, ValueError, "failed"), (KeyboardInterrupt, SystemExit, "interrupted")],
)
def test_a_run_that_breaks_off_is_told(
    error: type[BaseException], raised: type[BaseException], status: str, tmp_path: Path
) -> None:
    with pytest.raises(raised):
        trainer(RunReport(str(tmp_path))).fit(Toy(fail_at=2, error=error), loader())
    assert summary(tmp_path)["status"] == status
    assert summary(tmp_path)["steps"] == 2


@pytest.mark.filterwarnings("ignore")
def test_a_step_of_several_batches_is_one_row(tmp_path: Path) -> None:
    class EverySecond(Toy):
        def training_step(self, batch: Any, batch_idx: int) -> None:
            if batch_idx % 2:
                super().training_step(batch, batch_idx)

    report = RunReport(str(tmp_path))
    trainer(report, max_steps=4).fit(EverySecond(), loader())
    assert [step for step, _ in report.curves["train_loss"]] == [1, 2, 3, 4]
    assert summary(tmp_path)["step_ms_median"] == 25.0


@pytest.mark.filterwarnings("ignore")
def test_a_run_refused_at_its_start_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="toy"):
        trainer(RunReport(str(tmp_path / "run"))).fit(Toy(fail_at=0), loader())
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_keeps_the_zero_shot_figures_that_it_measured_anew(tmp_path: Path) -> None:
    report = RunReport(str(tmp_path / "run"))
    trainer(report).test(Toy(), loader(), verbose=False)
    measured = dict(report.zero_shot)
    report.take_up({}, [], lambda batches: batches)
    assert report.zero_shot == measured != {}
    report.take_up({"test_loss": 3.0}, [], lambda batches: batches)
    assert report.zero_shot == {"test_loss": 3.0}
