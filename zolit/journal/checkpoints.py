"""Checkpoint files that are whole or not there."""

import os
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
        return super().load_checkpoint(path, *args, **kwargs) if held is None else held

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
        except OSError:
            scratch.unlink(missing_ok=True)
            raise
        folder = os.open(place.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
