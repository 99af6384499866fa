"""Checkpoint files that are whole or not there."""

import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO


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

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        held = self._held.pop(str(path), None)
        if held is not None:
            return held
        if "://" in str(path) or not zipfile.is_zipfile(path):
            return super().load_checkpoint(path, *args, **kwargs)
        return self._mapped(path, *args, **kwargs)

    @staticmethod
    def _mapped(
        path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """A local file's tensors as a map of it: what is not asked for is never in memory.

        A test copies the weights out of it and leaves the optimizer's residuals alone, which are
        twice the size of the codes.
        """
        content: dict[str, Any] = torch.load(
            path, map_location=map_location, weights_only=weights_only, mmap=True
        )
        return content

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        if "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        # One name for a place: what a kill leaves is written over by the next save.
        scratch = place.with_name(f".{place.name}.part")
        try:
            with scratch.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            scratch.replace(place)
        except (OSError, RuntimeError) as error:
            scratch.unlink(missing_ok=True)
            # Where a write fails, torch fails once more on what it could not write.
            fault = error if isinstance(error, OSError) else error.__context__
            if isinstance(fault, OSError):
                raise OSError(fault.errno, fault.strerror, str(place)) from error
            raise
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
