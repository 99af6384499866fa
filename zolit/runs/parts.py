"""What a run records of its parts beside their options: files that they read, versions of them."""

import hashlib
import os
from pathlib import Path
from typing import Any

from zolit.checkpoints.start import check_files as check_start
from zolit.digests import DIGEST_BYTES
from zolit.errors import UserError, tell
from zolit.strategies import Mask, Quantizer
from zolit.training.module import TuningModule


def recorded_parts(module: TuningModule) -> dict[str, Any]:
    """By dotted option: hex BLAKE2b of each file that a part reads; and the quantizer's version.

    Args:
        module: whose files are there.
    """
    found: dict[str, Any] = {name: _digest(file) for name, file in _files(module).items()}
    if module.quantizer.version is not None:
        found["model.quantizer"] = module.quantizer.version
    return found


def check_version(module: TuningModule, recorded: dict[str, Any], run: str) -> None:
    """Refuse a quantizer that makes other codes than that of the run made.

    Args:
        module: of the run.
        recorded: `recorded_parts` of the run; empty where it recorded none.
        run: its folder.

    Raises:
        UserError: naming both versions.
    """
    theirs, mine = recorded.get("model.quantizer"), module.quantizer.version
    if theirs is not None and theirs != mine:
        name = type(module.quantizer).__name__
        raise UserError(
            f"model.quantizer: {run} was made by version {theirs} of {name}, which this zolit has "
            f"in version {mine or 'none'}; use the zolit that the run was made with (versions in "
            "summary.json)"
        )


def check_given(module: TuningModule) -> None:
    """Refuse a module whose files are not there or not what they should be, before it is loaded.

    Args:
        module: as its options make it, not loaded yet.

    Raises:
        UserError: naming the option and the file.
    """
    module.source.resolved_path(weights=False)
    check_start(module.start_files)
    for part in _parts(module).values():
        part.read_files()
    for name, file in _files(module).items():
        if not Path(file).expanduser().is_file():
            raise UserError(
                f"{name}: there is no file {file!r} (looked for in {os.getcwd()!r}); name an "
                "existing one"
            )


def check_files(module: TuningModule, recorded: dict[str, Any], run: str) -> None:
    """Refuse a run of which a file is gone that its weights cannot be made without.

    A file with other content is told: whether the weights come out otherwise is compared later.

    Args:
        module: of the run, not loaded yet.
        recorded: `recorded_parts` of the run; empty where it recorded none.
        run: its folder.

    Raises:
        UserError: naming the option, the file and the run.
    """
    for name, file in _files(module).items():
        known = recorded.get(name)
        if not Path(file).expanduser().is_file():
            same = "" if known is None else f", the one whose BLAKE2b is {known}"
            raise UserError(
                f"{name}: {file!r}, which the weights of the run in {run} were made with, is not "
                f"there; put that file back in its place{same}"
            )
        if known is not None and known != (now := _digest(file)):
            tell(
                f"{name}: {file!r} is not as it was when the run in {run} began (BLAKE2b {known}, "
                f"now {now})"
            )


def _parts(module: TuningModule) -> dict[str, Quantizer | Mask]:
    """The parts that may read files, by the names of their options."""
    mask: Mask | None = getattr(module, "mask", None)  # steps along a gradient have none
    return {"quantizer": module.quantizer, **({} if mask is None else {"mask": mask})}


def _files(module: TuningModule) -> dict[str, str]:
    return {
        f"model.{part}.{name}": file
        for part, one in _parts(module).items()
        for name, file in one.files().items()
    }


def _digest(file: str) -> str:
    with Path(file).expanduser().open("rb") as stream:
        made = hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES))
    return made.hexdigest()
