"""What a sweep writes down, so that it goes on where a killed process ended."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zolit.caller import by_caller
from zolit.errors import UserError
from zolit.files import Lock, LockedError, new_folder, write_text
from zolit.sweeps.grid import Point
from zolit.sweeps.options import SweepOptions

VERSION = 1
NAME = "sweep.json"


class Kept:
    """The folder of a sweep: ``sweep.json``, and below it the folder of each point.

    sweep.json holds the grid and what is known of each point after each number of steps. It is
    replaced as a whole after each of them. What a killed process did not note is in the folder of
    the point, which is an ordinary run.

    Args:
        folder: of a sweep that `begin` made.

    Raises:
        UserError: if there is no sweep, its file is broken, or another process works on it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.content = _read(folder)
        try:
            self._lock = Lock(folder / NAME)
        except LockedError as error:
            raise UserError(
                f"{by_caller('sweep', 'run_dir')}: another process works on {str(folder)!r}; wait "
                "until it has ended"
            ) from error

    def release(self) -> None:
        """Let other processes go on with it."""
        self._lock.release()

    @property
    def points(self) -> list[Point]:
        """The points, in the order of the grid."""
        return [Point(name, values) for name, values in self.content["points"].items()]

    @property
    def options(self) -> SweepOptions:
        """How it spends its steps."""
        return SweepOptions(**self.content["options"])

    def path(self, point: Point) -> Path:
        """Folder of a point's run."""
        return self.folder / point.name

    def known(self, point: Point, steps: int) -> dict[str, Any] | None:
        """What was noted of a point after so many steps."""
        found: dict[str, Any] | None = self.content["known"].get(point.name, {}).get(str(steps))
        return found

    def failed(self, point: Point) -> str | None:
        """Why a point cannot go on; None if it can."""
        found: str | None = self.content["failed"].get(point.name)
        return found

    def note(self, point: Point, steps: int, found: Mapping[str, Any]) -> None:
        """Write down what is known of a point after so many steps."""
        self.content["known"].setdefault(point.name, {})[str(steps)] = dict(found)
        self._write()

    def note_failure(self, point: Point, why: str) -> None:
        """Write down that a point cannot go on."""
        self.content["failed"][point.name] = why
        self._write()

    def _write(self) -> None:
        write_text(self.folder / NAME, json.dumps(self.content, indent=2) + "\n")


def begin(
    folder: Path,
    points: Sequence[Point],
    options: SweepOptions,
    files: Mapping[str, str],
    **facts: Any,
) -> None:
    """Make the folder of a new sweep, at once and whole.

    Args:
        folder: new or empty.
        points: of its grid.
        options: how it spends its steps.
        files: texts of other files in it, by name.
        facts: whatever else sweep.json is to hold.

    Raises:
        UserError: if something is in the folder, or it cannot be written.
    """
    if (folder / NAME).is_file():
        raise UserError(
            f"{by_caller('run.run_dir', 'run_dir')}: {str(folder)!r} holds a sweep; go on with it "
            f"by {by_caller(f'zolit sweep --resume {folder}', 'resume=True')}, or name another "
            "folder"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(
            f"{by_caller('run.run_dir', 'run_dir')}: got {str(folder)!r}, which is not empty; name "
            "a new folder for the sweep"
        )
    content = {
        "version": VERSION,
        **facts,
        "options": asdict(options),
        "points": {one.name: dict(one.values) for one in points},
        "known": {},
        "failed": {},
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with new_folder(folder) as scratch:
        for name, text in files.items():
            write_text(scratch / name, text)
        write_text(scratch / NAME, json.dumps(content, indent=2) + "\n")


def _read(folder: Path) -> dict[str, Any]:
    file = folder / NAME
    try:
        found: Any = json.loads(file.read_text(encoding="utf-8"))
        known = isinstance(found, dict) and found.get("version") == VERSION
        if known and all(isinstance(found.get(name), dict) for name in ("points", "known")):
            return dict(found)
    except OSError as error:
        raise UserError(
            f"resume: {str(folder)!r} holds no sweep; give the folder that a sweep was kept in"
        ) from error
    except ValueError:
        pass
    raise UserError(
        f"resume: {str(file)!r} is not what this zolit writes; begin anew in another folder"
    )
