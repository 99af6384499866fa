"""How far the weights of a model are from what they were."""

import math
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from zolit.checkpoints.tensors import moving_weights, weight_tensors
from zolit.formats.base import StoredWeight
from zolit.tensors.weight import PerturbedWeight
from zolit.tensors.workspace import update_chunks

ALL = "all"
"""The group of all weights that move."""


@torch.no_grad()
def relative_moves(model: nn.Module, before: Mapping[str, Tensor]) -> dict[str, float | None]:
    """The length of the change of the weights beside their length before, for groups of weights.

    ``|W - W0| / |W0|`` over all numbers of a group, decoded: what is compared is what products see.
    Stored weights are decoded chunk by chunk, so that no second copy of the model is made where
    ``before`` is mapped from a file.

    Args:
        model: prepared; its weights are read.
        before: what `weight_tensors` returned of it, on the CPU.

    Returns:
        By group: `ALL`, then the names of the layers, such as ``q_proj``, which stand for that
        layer of all blocks. None where the weights were zero before, as one factor of an adapter.

    Raises:
        KeyError: if ``before`` lacks a tensor of the model.
    """
    change: dict[str, float] = defaultdict(float)
    size: dict[str, float] = defaultdict(float)
    tensors = weight_tensors(model)
    for path, weight in moving_weights(model).items():
        if isinstance(weight, PerturbedWeight):
            moved, length = _of_store(path, weight, before)
        else:
            name = f"{path}.weight"
            moved, length = _squares(tensors[name], before[name].to(tensors[name].device))
        for group in (ALL, group_of(path)):
            change[group] += moved
            size[group] += length
    return {
        group: math.sqrt(change[group] / size[group]) if size[group] else None for group in change
    }


def group_of(path: str) -> str:
    """The group that a weight counts in: the name of its layer, with that of a bias behind it.

    Args:
        path: of the parameter.

    Example:
        >>> group_of("model.layers.3.self_attn.q_proj.weight")
        'q_proj'
        >>> group_of("model.layers.3.self_attn.q_proj.bias")
        'q_proj.bias'
    """
    names = [name for name in path.split(".") if not name.isdigit()]
    if len(names) > 1 and names[-1] == "weight":
        return names[-2]
    return ".".join(names[-2:])


def _of_store(
    path: str, weight: PerturbedWeight, before: Mapping[str, Tensor]
) -> tuple[float, float]:
    """Squared lengths of the change and of the weight before."""
    store = weight.store
    tensors = store.tensors()
    site = weight.site
    moved = {} if site is None else site.coordinates.moved_tensors(store)
    old = {name: before[f"{path}.{name}"].to(store.device) for name in moved}
    earlier = store.replace({**tensors, **old})
    change = size = 0.0
    for rows in update_chunks(store):
        now, then = _decoded(store, rows), _decoded(earlier, rows)
        part = _squares(now, then)
        change, size = change + part[0], size + part[1]
    return change, size


def _decoded(store: StoredWeight, rows: slice) -> Tensor:
    out = torch.zeros(rows.stop - rows.start, store.padded_columns, device=store.device)
    store.read(rows, [out], None, "reference")
    return store.in_model_order(out)


def _squares(now: Tensor, before: Tensor) -> tuple[float, float]:
    change = (now.double() - before.double()).square().sum()
    return float(change), float(before.double().square().sum())
