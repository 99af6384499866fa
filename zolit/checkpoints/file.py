"""Checkpoint files that are whole or not there."""

import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from zolit.checkpoints.content import check_content, keep_inside
from zolit.errors import UserError, first_line
from zolit.files import replacing


def read_checkpoint(
    path: Path, map_location: Any = "cpu", weights_only: bool = True
) -> dict[str, Any]:
    """A local checkpoint, its tensors as a map of the file: what is not used is never in memory.

    A test copies the weights out of it and leaves the optimizer's residuals alone, which are twice
    the size of the codes. As a map skips the checks of an ordinary read, every checksum in the file
    is compared first.

    Args:
        path: of the file.
        map_location: where tensors go, as in `torch.load`.
        weights_only: refuse whatever is not a tensor or a plain value.

    Raises:
        UserError: if the file is missing, damaged or no checkpoint.
    """
    try:
        check_archive(path)
        content: Any = torch.load(
            path, map_location=map_location, weights_only=weights_only, mmap=True
        )
    except Exception as error:
        # A damaged file takes its readers anywhere.
        raise UserError(
            f"ckpt_path: {str(path)!r} cannot be read as a checkpoint ({first_line(error)}); give "
            "another one of the run, or one that zolit replay writes"
        ) from error
    check_content(content, path)
    keep_inside(content, path.resolve().parent)
    checked: dict[str, Any] = content
    return checked


def check_archive(path: Path) -> None:
    """Compare every checksum of an archive such as `torch.save` writes, in small pieces.

    Raises:
        ValueError: if it is damaged, or holds what `torch.save` does not write: compressed members,
            or more bytes than the file.
        OSError, zipfile.BadZipFile: if it is no archive that can be read.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(one.compress_type != zipfile.ZIP_STORED for one in members):
            raise ValueError("it is compressed, which no checkpoint is")
        if sum(one.file_size for one in members) > path.stat().st_size:
            raise ValueError("its table names more bytes than it has")
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"the checksum of {damaged} in it is wrong")


class FileCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside its place, through to the disk, and then puts it there.

    Lightning makes its copy in the system's folder for temporary files, and a move from another
    file system is a copy that a kill cuts short; it also holds the whole file in memory first.
    """

    def __init__(self) -> None:
        self._held: dict[str, dict[str, Any]] = {}

    def hold(self, path: str, content: dict[str, Any]) -> None:
        """Hand out ``content`` the next time that ``path`` is read, from memory."""
        self._held[path] = content

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint; tensors and plain values only, unless told ``weights_only=False``.

        Raises:
            UserError: if a local file is missing, damaged or no checkpoint.
        """
        held = self._held.pop(str(path), None)
        if held is not None:
            return held
        weights_only = weights_only is not False
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only)
        return read_checkpoint(Path(path), map_location, weights_only)

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(place, durable=True) as scratch, scratch.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            # Where a write fails, torch fails once more on what it could not write.
            fault = error if isinstance(error, OSError) else error.__context__
            if isinstance(fault, OSError):
                raise OSError(fault.errno, fault.strerror, str(place)) from error
            raise


def use_whole_files(trainer: L.Trainer) -> None:
    """Have a trainer read and write checkpoints by `FileCheckpoints`, if it has no way of its own.

    Args:
        trainer: whose ``strategy.checkpoint_io`` is replaced where it is Lightning's default.
    """
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = FileCheckpoints()
