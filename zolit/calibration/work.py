"""The folder in which a saliency is computed: what is done stays there, for the next try."""

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
from zolit.files import Lock, LockedError, replacing, write_text


class Work:
    """Files of a computation, in a folder beside its target, and how far it has come.

    A file is whole or not there; the newest says where to go on. The folder is claimed by the
    digest of whatever the result depends on: one of another computation is emptied first.

    Args:
        to: the target.
        claim: what the result depends on, in plain values.
        blocks: of the model.
        lengths: tokens of each window.

    Raises:
        UserError: if the folder cannot be made, or another process computes the same target.
    """

    def __init__(
        self, to: Path, claim: Mapping[str, object], blocks: int, lengths: Sequence[int]
    ) -> None:
        self.folder = to.with_name(f".{to.name}.work")
        self.blocks = blocks
        self.lengths = lengths
        self._claim = self.folder / "claim.json"
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
        if not self._claim.is_file() or self._claim.read_text(encoding="utf-8") != text:
            for file in self.folder.glob("*.*"):
                if not file.name.startswith(f".{self._claim.name}"):  # its lock
                    file.unlink()
            write_text(self._claim, text)

    def __enter__(self) -> "Work":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def remove(self) -> None:
        """Delete the folder: the target is there."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def inputs(self, block: int, columns: int, dtype: torch.dtype) -> Kept:
        """What reaches a block; behind the last, what that gave."""
        return Kept(self.folder / f"inputs-{block}.bin", self.lengths, columns, dtype)

    def gradients(self, block: int, columns: int) -> Kept:
        """Of the loss by what reaches a block; behind the last, by what that gave."""
        name = f"gradients-{block}.bin"
        return Kept(self.folder / name, self.lengths, columns, torch.float32)

    def scores(self, block: int) -> Path:
        """Scores of a block's weights."""
        return self.folder / f"scores-{block}.safetensors"

    def save_scores(self, block: int, tensors: dict[str, Tensor]) -> None:
        """Write the scores of a block's weights."""
        with replacing(self.scores(block)) as scratch:
            save_file({name: one.cpu().contiguous() for name, one in tensors.items()}, scratch)

    def forward_done(self) -> int:
        """Of how many blocks the inputs are kept; those behind the last count as one more."""
        known = range(self.blocks, -1, -1)
        found = (n for n in known if (self.folder / f"inputs-{n}.bin").is_file())
        return next(found, -1) + 1

    def backward_left(self) -> int | None:
        """How many blocks wait for the sweep back; None while it has not begun."""
        known = range(self.blocks + 1)
        found = (n for n in known if (self.folder / f"gradients-{n}.bin").is_file())
        return next(found, None)

    def check_room(self, wanted: int) -> None:
        """Refuse a disk that is too full.

        Args:
            wanted: bytes that will be written.

        Raises:
            UserError: naming both sizes.
        """
        free = shutil.disk_usage(self.folder).free
        if wanted > free:
            raise UserError(
                f"--to: the hidden states of the text take {wanted / 1e9:.1f} GB beside the file, "
                f"but its disk has {free / 1e9:.1f} GB left; lower samples or length, or name a "
                "file on another disk"
            )


def text_digest(windows: Sequence[tuple[Tensor, int]]) -> str:
    """Hex BLAKE2b of the tokens of windows and of where their losses begin."""
    digest = hashlib.blake2b(digest_size=16)
    for ids, start in windows:
        digest.update(f"{start} {ids.tolist()}\n".encode())
    return digest.hexdigest()
