"""Start a run from checkpoints of earlier runs: copy their tensors into a loaded model."""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zolit.checkpoints.file import read_checkpoint
from zolit.checkpoints.tensors import weight_format
from zolit.errors import UserError
from zolit.formats.sparse_overlay import SparseOverlay
from zolit.models.plan import find_parameters
from zolit.tensors.weight import PerturbedWeight

Started = list[dict[str, str]]
"""Path and BLAKE2b of each checkpoint that a model was started from, in order."""


def check_files(files: Sequence[str]) -> None:
    """Refuse files that are not there, before a model is loaded.

    Raises:
        UserError: naming the first.
    """
    for file in files:
        if not Path(file).is_file():
            raise UserError(
                f"start_from: there is no checkpoint {file!r} (looked for in {os.getcwd()!r}); "
                "make the run it belongs to first, or name a file such as RUN/checkpoints/best.ckpt"
            )


@torch.no_grad()
def start_from(model: nn.Module, files: Sequence[str]) -> Started:
    """Copy the tensors of checkpoints into a prepared model, one file after the other.

    Each holds the weights that its run moved. In the new run these weights may move or stay.

    Args:
        model: prepared, of the same source and quantizer as the runs, with their adapter if they
            had one.
        files: checkpoints of zolit.

    Returns:
        Paths and hashes of the files, which the checkpoints of the run keep.

    Raises:
        UserError: if a file is no checkpoint, started itself from one that is not listed before
            it, or holds a tensor that the model lacks or has in another shape or dtype.
    """
    there = _tensors(model)
    started: Started = []
    for file in files:
        content = _read(file)
        if "zolit_fingerprint" not in content:
            raise UserError(
                f"start_from: {file!r} is not a checkpoint of zolit; give one of a run's"
            )
        known = {one["digest"] for one in started}
        for earlier in _recorded(content.get("zolit_started", []), f"start_from: {file!r}"):
            if earlier["digest"] not in known:
                raise UserError(
                    f"start_from: the run of {file!r} itself started from {earlier['path']!r}; "
                    "list that one before it"
                )
        for name, tensor in content["state_dict"].items():
            mine = there.get(name)
            if mine is None:
                raise UserError(
                    f"start_from: {file!r} holds {name}, which the model lacks; use the source, "
                    "quantizer and adapter of its run"
                )
            shape = _stored_shape(mine)
            if tensor.shape != shape or tensor.dtype != mine.dtype:
                raise UserError(
                    f"start_from: {name} is {tuple(tensor.shape)} {tensor.dtype} in {file!r}, "
                    f"expected {tuple(shape)} {mine.dtype}; use the source, quantizer and "
                    "adapter of its run"
                )
        _check_entries(model, content, file)
        for name, tensor in content["state_dict"].items():
            there[name].copy_(tensor.view(there[name].shape))
        _forget_errors(model, content["state_dict"])
        started.append({"path": file, "digest": _digest(file)})
    return started


def moved_weights(files: Sequence[str]) -> set[str]:
    """Paths of the weights that the runs of these checkpoints moved.

    Raises:
        UserError: if a file cannot be read.
    """
    return {name.rpartition(".")[0] for file in files for name in _read(file)["state_dict"]}


def check_started(mine: Started, theirs: Any) -> None:
    """Refuse a checkpoint of a run that started from other files.

    Args:
        mine: files that the model was started from.
        theirs: the entry of a checkpoint that names its files.

    Raises:
        UserError: naming both.
    """
    theirs = _recorded(theirs, "ckpt_path: the checkpoint")
    if [one["digest"] for one in mine] != [one["digest"] for one in theirs]:
        here, there = (
            ", ".join(one["path"] for one in files) or "the model itself"
            for files in (mine, theirs)
        )
        same = " with other content" if here == there else ""
        raise UserError(
            f"ckpt_path: the run of the checkpoint started from {there}, here start_from is "
            f"{here}{same}; use the config.yaml and the files of that run"
        )


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every tensor of a model, or a view of it, by its name in checkpoints."""
    found: dict[str, Tensor] = {}
    for one in find_parameters(model):
        if isinstance(one.parameter, PerturbedWeight):
            tensors = one.parameter.store.tensors()
            found.update({f"{one.parameter.path}.{name}": t for name, t in tensors.items()})
        else:
            # A float weight that is frozen here; the other run may have tuned it.
            found[f"{one.path}.weight"] = one.as_stored()
    return found


def _stored_shape(view: Tensor) -> torch.Size:
    """Shape of the stored weight: the matrices of a stack of experts lie one below the other."""
    if view.dim() < 3:
        return view.shape
    return torch.Size((view.shape[0] * view.shape[1], view.shape[2]))


def _check_entries(model: nn.Module, content: dict[str, Any], file: str) -> None:
    """Refuse floats that stood beside other entries of a weight than here."""
    theirs = content["zolit_fingerprint"]["weights"]
    for parameter in model.parameters():
        if not isinstance(parameter, PerturbedWeight):
            continue
        path, overlay = parameter.path, isinstance(parameter.store, SparseOverlay)
        if not overlay or f"{path}.values" not in content["state_dict"]:
            continue
        if theirs.get(path) != weight_format(parameter):
            raise UserError(
                f"start_from: the floats of {path} in {file!r} are those of other entries than the "
                "mask chooses here; use the mask and quantizer of its run"
            )


def _forget_errors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Drop the quantization errors of weights that got other codes."""
    for parameter in model.parameters():
        if isinstance(parameter, PerturbedWeight):
            codes = parameter.store.tensors().keys() - parameter.store.scales().keys()
            if any(f"{parameter.path}.{name}" in tensors for name in codes):
                parameter.store.error = None


def _read(file: str) -> dict[str, Any]:
    return read_checkpoint(Path(file), option="start_from")


def _recorded(started: Any, file: str) -> Started:
    """The list of files in a checkpoint that its run started from.

    Raises:
        UserError: if it is not a list of paths and digests.
    """
    fields = {"path", "digest"}
    if not isinstance(started, list) or not all(
        isinstance(one, dict) and one.keys() == fields and all(map(_is_text, one.values()))
        for one in started
    ):
        raise UserError(
            f"{file} says in no known way what its run started from; give a checkpoint of a run"
        )
    return started


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _digest(file: str) -> str:
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
