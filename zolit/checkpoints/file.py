"""Read and write checkpoint files; a file is there as a whole or not at all."""

import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from zolit.caller import by_caller
from zolit.checkpoints.content import check_content, keep_inside
from zolit.errors import UserError, first_line
from zolit.files import replacing


def read_checkpoint(
    path: Path,
    map_location: Any = "cpu",
    weights_only: bool = True,
    option: str = "ckpt_path",
) -> dict[str, Any]:
    """Read a local checkpoint. Its tensors are mapped from the file, so unused ones take no memory.

    A test copies the weights and never reads the residuals of the optimizer, which are twice the
    size of the codes. A mapped read skips the checks of an ordinary one, so every checksum in the
    file is compared first.

    Args:
        path: of the file.
        map_location: where tensors go, as in `torch.load`.
        weights_only: refuse whatever is not a tensor or a plain value.
        option: that named the file, for the message.

    Raises:
        UserError: if the file is missing, damaged or no checkpoint.
    """
    try:
        check_archive(path)
        content: Any = torch.load(
            path, map_location=map_location, weights_only=weights_only, mmap=True
        )
    except Exception as error:
        # Readers of a damaged file may raise anything.
        raise UserError(
            f"{option}: {str(path)!r} cannot be read as a checkpoint ({first_line(error)}); give "
            f"another one of the run, or one that {by_caller('zolit replay', 'zolit.replay')} "
            "writes"
        ) from error
    check_content(content, path, option)
    keep_inside(content, path.resolve().parent)
    checked: dict[str, Any] = content
    return checked


def check_archive(path: Path) -> None:
    """Compare every checksum of an archive that `torch.save` wrote, in small pieces.

    Raises:
        ValueError: if it is damaged, or holds members that `torch.save` does not write: compressed
            ones, or more bytes than the file has.
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
    """Writes a checkpoint to a file beside its place, waits for the disk, and then renames it.

    Lightning writes in the system's folder for temporary files. To move a file from another file
    system is to copy it, and a kill during the copy leaves half a file. Lightning also builds the
    whole file in memory first.
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
            # After a failed write, torch fails a second time when it closes the archive.
            fault = error if isinstance(error, OSError) else error.__context__
            if isinstance(fault, OSError):
                raise OSError(fault.errno, fault.strerror, str(place)) from error
            raise


def use_whole_files(trainer: L.Trainer) -> None:
    """Let a trainer read and write checkpoints by `FileCheckpoints`.

    Args:
        trainer: its ``strategy.checkpoint_io`` is replaced, unless the user chose another one than
            Lightning's default.
    """
    if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
        trainer.strategy.checkpoint_io = FileCheckpoints()
