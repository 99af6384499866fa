import pytest
from toy import Toy, loader, trainer

from zolit.callbacks import Progress

pytestmark = pytest.mark.filterwarnings("ignore")


def test_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(Progress(every_n_steps=2)).fit(Toy(), loader(), loader())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step")]
    assert [line.split()[1] for line in lines] == ["2/6", "4/6", "6/6"]
    assert "loss 0.167" in lines[-1]
    assert "val accuracy 0.250 (step 3)" in lines[-1], "a figure says which step it is of"
    assert "60 ms/step" in lines[-1]
    assert "GB" in lines[-1]
    assert "val accuracy" not in lines[0]


def test_at_most_ten_lines_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(Progress(), max_steps=100).fit(Toy(), loader())
    out = capsys.readouterr().out
    assert sum(line.startswith("step ") for line in out.splitlines()) == 10


def test_a_long_test_says_how_far_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    trainer(Progress(every_n_seconds=0)).test(Toy(), loader(), verbose=False)
    trainer(Progress()).test(Toy(), loader(), verbose=False)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("test:")]
    assert lines == [f"test: {n}/{len(loader())} batches" for n in range(1, len(loader()) + 1)]


def test_a_bar_in_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    runner = trainer(Progress())
    runner.test(Toy(), loader(), verbose=False)
    runner.fit(Toy(), loader(), loader())
    out = capsys.readouterr().out
    assert "6/6" in out
    assert "ms/step" in out


def test_disabled(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress()
    runner = trainer(bar)
    bar.disable()
    runner.fit(Toy(), loader())
    assert "step " not in capsys.readouterr().out
