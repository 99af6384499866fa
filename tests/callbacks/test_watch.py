"""What a run says of itself, on tiny models that are really fitted."""

import json
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))
from test_zero_order import loader, module, trainer

from zolit.callbacks import RunReport
from zolit.callbacks.watch import Watch
from zolit.caller import as_command
from zolit.optim import ZOSGD
from zolit.strategies import CodePerturber, Int8, ScalePerturber
from zolit.training.zero_order import ZeroOrderModule

pytestmark = pytest.mark.filterwarnings("ignore")


def fitted(
    one: ZeroOrderModule, folder: Path, steps: int = 4, tests: bool = False, **options: Any
) -> dict[str, Any]:
    """The summary of a run of a few steps, twelve of which are an epoch."""
    options = {"val_check_interval": 2, "check_val_every_n_epoch": None, **options}
    run = trainer(steps, folder, callbacks=[RunReport(str(folder / "run"))], **options)
    if tests:
        run.test(one, loader(), verbose=False)
    run.fit(one, loader(), loader())
    if tests:
        run.test(one, loader(), verbose=False)
    found: dict[str, Any] = json.loads((folder / "run" / "summary.json").read_text("utf-8"))
    return found


def scales(**options: Any) -> ZeroOrderModule:
    settings = {"perturber": ScalePerturber(), "optimizer": lambda p: ZOSGD(p, lr=1e-2)}
    return module(**{**settings, **options})


def dead() -> ZeroOrderModule:
    """Its last norm gives zeros, whatever the row."""
    one = scales()
    one.network.get_parameter("model.norm.weight").zero_()
    return one


def test_a_run_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fitted(scales(), tmp_path, tests=True)
    out = capsys.readouterr().out
    lines = [line for line in out.splitlines() if line.startswith("validation after step ")]
    assert [line.split()[3] for line in lines] == ["2:", "4:"]
    assert lines[0].endswith("(best so far)")
    assert "loss" in lines[0]
    assert "accuracy" in lines[0]
    assert set(told["findings"]) <= {"worse", "one answer", "guess"}, "two steps prove nothing"
    assert told["validation_step"] == 4
    assert 1e-4 < told["relative_step"] < 1
    assert set(told["text_loss"]) == {"zero_shot", "fine_tuned"}


def test_the_default_rate_and_eps_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = module(perturber=CodePerturber(), optimizer=lambda p: ZOSGD(p))
    fitted(one, tmp_path, steps=1)
    out = capsys.readouterr().out.splitlines()
    assert f"lr {one.default_lr:g}, the default of CodePerturber" in out
    assert "eps 1, the default of CodePerturber" in out


def test_steps_that_do_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fitted(scales(optimizer=lambda p: ZOSGD(p, lr=1e-9)), tmp_path)
    sentence = told["findings"]["length"]
    assert "too little to change an answer; raise lr (it is 1e-09; ScalePerturber's" in sentence
    assert capsys.readouterr().out.count(sentence) == 1


def test_a_model_that_no_longer_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fitted(dead(), tmp_path)
    assert set(told["findings"]) == {"constant", "no move"}
    assert told["findings"]["constant"].startswith("after step 4: every one of 48 rows gets")
    assert "loss of a guess: 1.0986" in told["findings"]["constant"]
    out = capsys.readouterr().out
    for once in ("zolit: after step 2: every one", "gets the same scores", "moved nothing"):
        assert out.count(once) == 1


def test_one_that_never_read_is_told_so(tmp_path: Path) -> None:
    told = fitted(dead(), tmp_path, tests=True)
    assert "it never did" in told["findings"]["constant"]


def test_what_no_longer_holds_is_taken_back(tmp_path: Path) -> None:
    class Recovers(ZeroOrderModule):
        def on_validation_end(self) -> None:
            self.network.get_parameter("model.norm.weight").fill_(1.0)

    one = dead()
    one.__class__ = Recovers
    told = fitted(one, tmp_path, steps=6)
    assert "constant" not in told["findings"]
    assert "no move" not in told["findings"]


def test_a_dead_end_stays_told_though_an_earlier_step_is_tested(tmp_path: Path) -> None:
    class Revives(ZeroOrderModule):
        def on_train_end(self) -> None:
            self.network.get_parameter("model.norm.weight").fill_(1.0)

    one = dead()
    one.network.get_parameter("model.norm.weight").fill_(1.0)
    run = trainer(
        4,
        tmp_path,
        callbacks=[report := RunReport(str(tmp_path / "run"))],
        val_check_interval=2,
        check_val_every_n_epoch=None,
    )
    run.test(one, loader(), verbose=False)
    one.network.get_parameter("model.norm.weight").zero_()
    one.__class__ = Revives
    run.fit(one, loader(), loader())
    run.test(one, loader(), verbose=False)
    assert report.watch.found["constant"].startswith("after step 4: ")


def test_worse_than_zero_shot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    class Spoilt(ZeroOrderModule):
        def on_train_end(self) -> None:
            weight = self.network.get_parameter("lm_head.weight")
            weight.copy_(30 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)))

    ends = {"worse", "loss", "text", "guess"}
    for at_command in (False, True):
        one = scales()
        one.__class__ = Spoilt
        with as_command() if at_command else nullcontext():
            told = fitted(one, tmp_path, tests=True)
        assert told["final"]["test_loss"] > 2 * told["zero_shot"]["test_loss"]
        assert ends <= set(told["findings"])
        out = capsys.readouterr().out
        for kind in ends:  # a command shows them below the table that it prints next
            assert (told["findings"][kind] in out) is not at_command


@pytest.mark.parametrize(("step", "told"), [(0, True), (3, False)])
def test_a_run_that_is_resumed_says_nothing_of_its_dtype(
    step: int, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zolit.callbacks.watch.told_dtype", lambda name, given: "a slow dtype")
    lines: list[str] = []
    counts = {"estimated_stepping_batches": 5, "num_training_batches": 1}
    at: Any = SimpleNamespace(enable_validation=False, global_step=step, **counts)
    Watch(lines.append).started(at, scales())
    assert ("a slow dtype" in lines) is told


@pytest.mark.parametrize(
    ("steps", "micro_batches", "options", "told"),
    [
        (11, 1, {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}, True),
        (12, 1, {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}, False),
        (6, 2, {"val_check_interval": 1.0, "check_val_every_n_epoch": 1}, False),
        (12, 1, {"val_check_interval": 1.0, "check_val_every_n_epoch": 2}, True),
        (3, 1, {"val_check_interval": 4}, True),
        (3, 1, {"val_check_interval": 3}, False),
        (3, 1, {"val_check_interval": 4, "limit_val_batches": 0}, False),
    ],
)
def test_a_run_without_validation_says_so_at_its_start(
    steps: int,
    micro_batches: int,
    options: dict[str, Any],
    told: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = scales(micro_batches=micro_batches)
    summary = fitted(one, tmp_path, steps=steps, **options)
    lines = capsys.readouterr().out.splitlines()
    assert any("no validation will happen" in line for line in lines) == told
    validated = any(line.startswith("validation after") for line in lines)
    assert validated == (not told and options.get("limit_val_batches") != 0)
    assert (summary["validation_step"] is not None) == validated


@pytest.mark.parametrize(("lr", "keep", "told"), [(3.0, False, True), (3.0, True, False)])
def test_error_feedback_that_moves_no_code(
    lr: float, keep: bool, told: bool, tmp_path: Path
) -> None:
    one = module(
        quantizer=Int8(keep_error=keep),
        perturber=CodePerturber(),
        optimizer=lambda p: ZOSGD(p, lr=lr, error_feedback=True),
    )
    codes = [weight.store.codes.clone() for weight in one.weights]  # type: ignore[attr-defined]
    summary = fitted(one, tmp_path, steps=2)
    moved = any(
        not torch.equal(weight.store.codes, before)  # type: ignore[attr-defined]
        for weight, before in zip(one.weights, codes, strict=True)
    )
    assert ("held back" in summary["findings"]) == told
    assert moved == (not told)
