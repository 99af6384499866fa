"""The folder of a sweep: made at once, taken by one process, read with care."""

from pathlib import Path

import pytest

from zolit.errors import UserError
from zolit.sweeps.grid import points_of
from zolit.sweeps.kept import Kept, begin
from zolit.sweeps.options import SweepOptions

POINTS = points_of({"lr": [0.1, 1]})


def made(folder: Path) -> Path:
    begin(folder, POINTS, SweepOptions(reduction=2), {"recipe-1.yaml": "a: 1\n"}, args=["x"])
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = made(tmp_path / "deep" / "sweep")
    kept = Kept(folder)
    assert kept.points == POINTS
    assert kept.options == SweepOptions(reduction=2)
    assert kept.content["args"] == ["x"]
    assert (folder / "recipe-1.yaml").read_text(encoding="utf-8") == "a: 1\n"
    kept.note(POINTS[0], 10, {"steps": 10})
    kept.note_failure(POINTS[1], "why")
    kept.release()
    again = Kept(folder)
    assert again.known(POINTS[0], 10) == {"steps": 10}
    assert again.known(POINTS[0], 20) is None
    assert (again.failed(POINTS[0]), again.failed(POINTS[1])) == (None, "why")
    again.release()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    folder = made(tmp_path / "sweep")
    kept = Kept(folder)
    with pytest.raises(UserError, match="another process works on"):
        Kept(folder)
    kept.release()
    Kept(folder).release()


def test_folders_that_are_taken(tmp_path: Path) -> None:
    folder = made(tmp_path / "sweep")
    with pytest.raises(UserError, match="holds a sweep; go on with it by resume=True"):
        made(folder)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    for name in ("other", "other/notes.txt"):
        with pytest.raises(UserError, match="which is not empty; name a new folder"):
            made(tmp_path / name)


@pytest.mark.parametrize("text", ["", "[]", '{"version": 1}', '{"version": 2, "points": {}}'])
def test_files_that_are_broken(tmp_path: Path, text: str) -> None:
    folder = made(tmp_path / "sweep")
    (folder / "sweep.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="is not what this zolit writes"):
        Kept(folder)


def test_folders_without_a_sweep(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no sweep"):
        Kept(tmp_path / "none")
