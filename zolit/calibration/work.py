"""The folder that keeps the intermediate results of a saliency, so that it can be continued."""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

import torch
from safetensors.torch import save_file
from torch import Tensor

from zolit.calibration.kept import Kept
from zolit.errors import UserError
from zolit.files import Lock, LockedError, replacing, work_folder, write_text

_CLAIM = "claim.json"


class Work:
    """Intermediate results of a computation, in a hidden folder beside the file that it makes.

    Each result is a file that appears when it is complete, so the files there tell where to
    continue. The folder also holds a description of the computation, ``claim.json``. If that is of
    another computation, the folder is emptied first. A computation that is refused before it could
    be continued leaves no folder.

    Args:
        to: the file that is made.
        claim: everything that the result depends on, in plain values.
        blocks: number of blocks of the model.
        lengths: number of tokens of each window.

    Raises:
        UserError: if the folder cannot be made, or another process computes the same target.
    """

    def __init__(
        self, to: Path, claim: Mapping[str, object], blocks: int, lengths: Sequence[int]
    ) -> None:
        self.folder = work_folder(to)
        self.blocks = blocks
        self.lengths = lengths
        self._claim = self.folder / _CLAIM
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = Lock(self._claim)
        except LockedError as error:
            raise UserError(
                f"--to: another process is computing {str(to)!r}; wait for it, or name another file"
            ) from error
        except OSError as error:
            raise UserError(
                f"--to: {str(to)!r} cannot be written ({error.strerror or error}); name another "
                "file"
            ) from error
        text = json.dumps(dict(claim), sort_keys=True)
        self._continued = self._claim.is_file() and self._claim.read_text(encoding="utf-8") == text
        if not self._continued:
            for file in self.folder.glob("*.*"):
                if not file.name.startswith(f".{self._claim.name}"):  # its lock
                    file.unlink()
            write_text(self._claim, text)

    @staticmethod
    def claimed(to: Path) -> dict[str, str]:
        """The description of a computation that was begun; empty for none, or for a damaged one."""
        try:
            found: dict[str, str] = json.loads((work_folder(to) / _CLAIM).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found

    def __enter__(self) -> "Work":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, UserError) and not self._continued:
            self.remove()  # what is refused leaves no trace; the results of a killed try are kept
            return
        self._lock.release()

    def remove(self) -> None:
        """Delete the folder, once the file is made."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def inputs(self, block: int, columns: int, dtype: torch.dtype) -> Kept:
        """Inputs of a block; the number after the last stands for the output of the last block."""
        return Kept(self.folder / f"inputs-{block}.bin", self.lengths, columns, dtype)

    def gradients(self, block: int, columns: int) -> Kept:
        """Gradients of the loss by the inputs of a block; numbers as in `inputs`."""
        name = f"gradients-{block}.bin"
        return Kept(self.folder / name, self.lengths, columns, torch.float32)

    def tangents(self, block: int, columns: int) -> Kept:
        """How inputs of a block change along a direction of the weights; numbers as in `inputs`."""
        return Kept(self.folder / f"tangents-{block}.bin", self.lengths, columns, torch.float32)

    def curves(self, block: int, columns: int) -> Kept:
        """How `gradients` change along a direction of the weights; numbers as in `inputs`."""
        return Kept(self.folder / f"curves-{block}.bin", self.lengths, columns, torch.float32)

    def direction(self, block: int) -> Path:
        """The file with a direction of a block's weights."""
        return self.folder / f"direction-{block}.safetensors"

    def scores(self, block: int) -> Path:
        """The file with the scores of a block's weights."""
        return self.folder / f"scores-{block}.safetensors"

    def save_scores(self, block: int, tensors: dict[str, Tensor]) -> None:
        """Write the scores of a block's weights."""
        self._save(self.scores(block), tensors)

    def save_direction(self, block: int, tensors: dict[str, Tensor]) -> None:
        """Write a direction of a block's weights."""
        self._save(self.direction(block), tensors)

    def _save(self, file: Path, tensors: dict[str, Tensor]) -> None:
        with replacing(file) as scratch:
            save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, scratch)

    def forward_done(self, kind: str = "inputs") -> int:
        """Number of blocks whose inputs are kept; the last block's output counts as one more.

        Args:
            kind: ``inputs``, or ``tangents`` for these.
        """
        known = range(self.blocks, -1, -1)
        found = (n for n in known if (self.folder / f"{kind}-{n}.bin").is_file())
        return next(found, -1) + 1

    def backward_left(self, kind: str = "gradients") -> int | None:
        """Number of blocks that the sweep back has still to pass; None before it has begun.

        Args:
            kind: ``gradients``, or ``curves`` for the sweep that makes these.
        """
        known = range(self.blocks + 1)
        found = (n for n in known if (self.folder / f"{kind}-{n}.bin").is_file())
        return next(found, None)

    def check_room(self, wanted: int) -> None:
        """Refuse a disk that is too full.

        Args:
            wanted: number of bytes that will be written.

        Raises:
            UserError: naming both sizes.
        """
        free = shutil.disk_usage(self.folder).free
        if wanted > free:
            raise UserError(
                f"saliency: the hidden states of the text take {wanted / 1e9:.1f} GB on the disk "
                f"of {str(self.folder.parent)!r} while the file is made, which has "
                f"{free / 1e9:.1f} GB left; lower saliency.samples or saliency.length, or write to "
                "another disk"
            )


def text_digest(windows: Sequence[tuple[Tensor, int]]) -> str:
    """Hex BLAKE2b of windows, each given by its token ids and the first token of its loss."""
    digest = hashlib.blake2b(digest_size=16)
    for ids, start in windows:
        digest.update(f"{start} {ids.tolist()}\n".encode())
    return digest.hexdigest()
