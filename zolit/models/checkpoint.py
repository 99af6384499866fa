"""Stored weights as plain tensors for checkpoints, and back."""

import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from zolit.errors import UserError
from zolit.models.prepare import stored_weights
from zolit.tensors.weight import PerturbedWeight

_HASHED_BYTES = 1 << 24


def weight_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Tensors that tuning moves, by ``path.tensor``; what stays fixed is the base model's."""
    found: dict[str, Tensor] = {}
    for weight in stored_weights(model):
        if weight.site is None:
            continue
        scales_only = weight.site.scales_only
        tensors = weight.store.scales() if scales_only else weight.store.tensors()
        found.update({f"{weight.path}.{name}": tensor for name, tensor in tensors.items()})
    return found


def load_weight_tensors(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy what `weight_tensors` gave into the stored weights of a prepared model, in place.

    Raises:
        UserError: if a tensor is missing, left over or of another shape or dtype. Nothing is
            changed then.
    """
    mine = weight_tensors(model)
    for name in sorted(mine.keys() ^ tensors.keys()):
        where = "the checkpoint lacks" if name in mine else "the checkpoint has an extra"
        raise UserError(
            f"ckpt_path: {where} tensor {name}; use the config.yaml that stands beside the "
            "checkpoint"
        )
    for name, tensor in mine.items():
        got = tensors[name]
        if got.shape != tensor.shape or got.dtype != tensor.dtype:
            raise UserError(
                f"ckpt_path: tensor {name} is {tuple(got.shape)} {got.dtype}, expected "
                f"{tuple(tensor.shape)} {tensor.dtype}; use the config.yaml that stands beside "
                "the checkpoint"
            )
    for name, tensor in mine.items():
        tensor.copy_(tensors[name])


def fingerprint(model: nn.Module) -> dict[str, Any]:
    """What tells a prepared model from another: formats, shapes and a hash of frozen weights."""
    digest = hashlib.blake2b(digest_size=16)
    left = _HASHED_BYTES
    for path, parameter in model.named_parameters():
        if isinstance(parameter, PerturbedWeight) or left <= 0:
            continue
        part = parameter.detach().reshape(-1)[: left // parameter.element_size()]
        digest.update(path.encode())
        digest.update(part.contiguous().cpu().view(torch.uint8).numpy().tobytes())
        left -= part.numel() * part.element_size()
    weights = {w.path: _format(w) for w in stored_weights(model)}
    return {"frozen": digest.hexdigest(), "weights": weights}


def _format(weight: PerturbedWeight) -> str:
    facts = weight.store.describe()
    return f"{facts['format']} {facts['rows']}x{facts['columns']}"


def check_fingerprint(mine: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Refuse a checkpoint of another model or format.

    Raises:
        UserError: naming the first difference.
    """
    for path in sorted(mine["weights"].keys() | theirs["weights"].keys()):
        here, there = mine["weights"].get(path), theirs["weights"].get(path)
        if here != there:
            raise UserError(
                f"ckpt_path: the checkpoint is of another model, its weight {path} is {there}, "
                f"here it is {here}; use the config.yaml that stands beside the checkpoint"
            )
    if mine["frozen"] != theirs["frozen"]:
        raise UserError(
            "ckpt_path: the checkpoint is of another model, its frozen weights hash to "
            f"{theirs['frozen']}, here to {mine['frozen']}; set model.source to the model that "
            "was fine-tuned"
        )
