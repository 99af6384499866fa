"""A folder that is whole or not there."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from zolit.errors import UserError


def check_new(to: Path) -> None:
    """Refuse a place that holds something.

    Raises:
        UserError: if it is a file or a folder that is not empty.
    """
    if to.is_symlink() or (to.exists() and (not to.is_dir() or any(to.iterdir()))):
        raise UserError(f"--to: got {str(to)!r}, which is not empty; name a new folder")


@contextmanager
def new_folder(to: Path) -> Iterator[Path]:
    """A scratch folder beside ``to``, put in its place at the end, removed after an error.

    Args:
        to: a folder that is empty or does not exist.

    Raises:
        UserError: if it holds something or cannot be written.
    """
    check_new(to)
    scratch = to.with_name(f".{to.name}.part")
    try:
        if scratch.exists():
            shutil.rmtree(scratch)  # left by a kill
        scratch.mkdir(parents=True)
        try:
            yield scratch
            if to.exists():
                to.rmdir()
            scratch.replace(to)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
    except OSError as error:
        raise UserError(
            f"--to: {str(to)!r} cannot be written ({error.strerror or error}); name another folder"
        ) from error
