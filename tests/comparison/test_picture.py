"""The picture of a comparison: what it shows of which run."""

from pathlib import Path

from folders import made

from zolit.comparison.compare import compare
from zolit.comparison.picture import picture


def test_a_panel_for_each_axis_that_is_known(tmp_path: Path) -> None:
    made(tmp_path / "a-seed0", 0.7)
    made(tmp_path / "a-seed1", 0.75, 1, status="interrupted")
    made(tmp_path / "b", 0.8, options={"model.tune": "x"}, backwards=4)
    found = compare([tmp_path])
    time, passes, memory = picture(found.lines, found.figure).axes
    assert [one.get_xlabel() for one in (time, passes, memory)] == [
        "wall-clock, s",
        "forward passes (a backward pass as two)",
        "peak memory, MB",
    ]
    drawn = [list(map(list, line.get_data())) for line in time.get_lines()]
    assert drawn == [[[20.0, 40.0], [0.5, 0.6]]] * 3
    assert [line.get_linestyle() for line in time.get_lines()] == ["-", "--", "-"]
    assert list(passes.get_lines()[0].get_xdata()) == [4.0, 8.0]
    assert [list(line.get_xdata()) for line in memory.get_lines()] == [[500.0], [500.0]]
    labels = [text.get_text() for text in time.get_legend().get_texts()]
    assert labels == ["a", "b"], "a recipe is named once"
    assert memory.get_ylabel() == "test accuracy"
    assert time.get_ylabel() == "val accuracy"


def test_runs_without_passes_have_no_panel_of_them(tmp_path: Path) -> None:
    made(tmp_path / "old", 0.7, totals=False)
    found = compare([tmp_path])
    axes = picture(found.lines, found.figure).axes
    assert [one.get_xlabel() for one in axes] == ["wall-clock, s", "peak memory, MB"]


def test_backward_passes_count_as_two(tmp_path: Path) -> None:
    folder = made(tmp_path / "first", 0.7)
    rows = "step,seconds,forwards,backwards,val_accuracy\n0,1,1,1,0.5\n1,2,2,2,0.6\n"
    (folder / "metrics.csv").write_text(rows, encoding="utf-8")
    [record] = compare([tmp_path]).lines[0].records
    assert [point.passes for point in record.curve] == [3.0, 6.0]
